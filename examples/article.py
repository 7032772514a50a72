"""The article's three networks, as a reader of it would write them in plain Keras: what is measured against.

    python examples/article.py [dense|conv|pool] [EPOCHS]

Adam, categorical cross-entropy, batches of 128, raw pixels from 0 to 255, scored on the test images at the end.
"""

import sys
import time

import keras
from keras import layers

from convladder import load_dataset

CONVOLUTIONS = {
    "dense": [],
    "conv": [
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
    ],
    "pool": [
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
    ],
}


def main(network: str = "pool", epochs: str = "10") -> None:
    """Train one network, and print its accuracy and the seconds that an epoch took."""
    mnist = load_dataset("mnist", validation=0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *CONVOLUTIONS[network],
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    model.fit(
        mnist.train.images.astype("float32"),
        keras.utils.to_categorical(mnist.train.labels),
        batch_size=128,
        epochs=int(epochs),
    )
    seconds = (time.perf_counter() - started) / int(epochs)
    _, accuracy = model.evaluate(
        mnist.test.images.astype("float32"), keras.utils.to_categorical(mnist.test.labels), verbose=0
    )
    print(f"{network}: {model.count_params():,} parameters, test accuracy {accuracy:.4f}, {seconds:.1f} s an epoch")


if __name__ == "__main__":
    main(*sys.argv[1:])
