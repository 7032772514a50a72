"""Fused: copies of networks that train faster to the same weights, with fused TensorFlow operations.

A copy is fitted instead of the network. Keras itself computes everything that the operations would compute differently.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from convladder.models.blocks import settle


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, trained with one TensorFlow operation instead of many small ones.

    It takes a quarter of the time on a CPU (docs/decisions/0001). Only the fitted copy uses it.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize (batch, height, width, channels), in training with the batch's mean and variance."""
        if not training or not self.trainable or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        # If the number of channels is not a multiple of 16, bfloat16 takes ten times as long as float32.
        computed_in = self.compute_dtype if channels % 16 == 0 else "float32"
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, computed_in),
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
        )
        # The operation returns the sample variance, divided by count − 1; Keras keeps the one divided by count.
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance *= tf.maximum(count - 1, 1) / count
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with weight decay, with one TensorFlow operation per variable instead of a dozen small ones.

    It runs and traces faster (docs/decisions/0003). Keras itself updates a variable with a constraint, without or with
    a sparse gradient, or of another type than float32.
    """

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step with one gradient for each variable that the optimizer was built for."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not all(map(_steps_alike, grads, variables)):
            return super().apply(grads, trainable_variables)
        step = tf.cast(self.iterations, tf.float32) + 1
        rate = tf.cast(self.learning_rate, tf.float32)
        powers = {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step}
        for gradient, variable, mean, square in zip(grads, variables, self._momentums, self._velocities, strict=True):
            if self.weight_decay and self._use_weight_decay(variable):
                variable.value.assign_sub(variable.value * (self.weight_decay * rate))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=mean.value.handle,
                v=square.value.handle,
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
                **powers,
            )
        self.iterations.assign_add(1)
        return None


def _steps_alike(gradient: Any, variable: Any) -> bool:
    """Whether the operation takes the same step as Keras."""
    return (
        tf.is_tensor(gradient)
        and not isinstance(gradient, tf.IndexedSlices)
        and (variable.constraint is None and variable.dtype == "float32")
    )


def clone(model: keras.Model, precision: str, image: Any = None, *, fuse: bool = True) -> keras.Model:
    """A copy of a network with the same weights and frozen layers, to be fitted in `precision`.

    Args:
        model: The network.
        precision: "float32", or "bfloat16" for what computes in float32 and bears it: the layers of Keras, but for the
            last.
        image: A Keras input, if the copy must take another height and width.
        fuse: Whether to use FusedBatchNormalization where it computes the same.
    """
    last = model.layers[-1].name

    def clone_layer(layer: Any) -> Any:
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):  # an operation, which computes in the type of its input
            return type(layer).from_config(config)
        if precision == "bfloat16" and layer.name != last and _bears_rounding(layer):
            config["dtype"] = "mixed_bfloat16"
        copy = (FusedBatchNormalization if fuse and _can_fuse(layer) else type(layer)).from_config(config)
        if copy.trainable != layer.trainable:  # a configuration can leave it out
            copy.trainable = layer.trainable
        return copy

    twin = keras.models.clone_model(model, input_tensors=image, clone_function=clone_layer)
    if twin.trainable != model.trainable:
        twin.trainable = model.trainable
    for weight, original in zip(twin.weights, model.weights, strict=True):
        weight.trainable = original.trainable  # a single weight of a layer can be frozen
    twin.set_weights(model.get_weights())
    settle(twin)
    return twin


def _bears_rounding(layer: Any) -> bool:
    """Whether a layer in float32 can use bfloat16: only Keras's layers, because others may mix the two and fail."""
    own = type(layer).__module__.partition(".")[0] in ("keras", "convladder")
    return own and not isinstance(layer, keras.layers.Lambda) and layer.dtype_policy.name == "float32"


def _can_fuse(layer: Any) -> bool:
    """Whether the operation can compute this batch normalization: over channels, with scale and center.

    The networks of `keras.applications` hold others.
    """
    if type(layer) is not keras.layers.BatchNormalization:
        return False
    if not (layer.scale and layer.center) or layer.renorm or layer.synchronized:
        return False
    over_channels = layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    return over_channels and layer.variable_dtype == "float32" and layer.compute_dtype in ("float32", "bfloat16")
