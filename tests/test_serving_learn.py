"""The lesson in a real browser: its arithmetic is NumPy's and Keras's, and everybody can use it."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import keras
import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from keras import layers
from playwright.sync_api import Browser

import convladder as cl
from browsing import Visit, open_browser
from convladder.models.ladder import build_model
from convladder.serving.application import create_application
from convladder.serving.page import WEB

LEARN = Path(str(WEB)) / "learn"
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def classifiers(request: pytest.FixtureRequest) -> dict[str, cl.Classifier]:
    """None, unless a test says otherwise."""
    if getattr(request, "param", "alone") == "alone":
        return {}
    run: cl.Run = request.getfixturevalue("run")
    return {"mine": run.classifier()}


@pytest.fixture(scope="module")
def url(classifiers: dict[str, cl.Classifier]) -> Iterator[str]:
    config = uvicorn.Config(create_application(classifiers), port=0, log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    listener.listen()
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    visit = Visit(browser, f"{url}learn")
    yield visit
    visit.close()
    assert visit.complaints == []
    assert all(address.startswith(url) for address in visit.requested)  # nothing of another host, not even a font
    assert visit.requested


both = pytest.mark.parametrize("classifiers", ["alone", "of a run"], indirect=True)


def compute(visit: Visit, module: str, code: str, *given: Any) -> Any:
    """What a module of the lesson computes."""
    return visit.page.evaluate(
        f"async (given) => {{ const m = await import(new URL('{module}', location.href)); {code} }}", list(given)
    )


def as_map(values: Floats) -> dict[str, Any]:
    return {"height": values.shape[0], "width": values.shape[1], "values": values.ravel().tolist()}


def as_array(answered: dict[str, Any]) -> Floats:
    return np.reshape(answered["values"], (answered["height"], answered["width"]))


def digits(url: str) -> tuple[npt.NDArray[np.uint8], list[int]]:
    told = httpx.get(f"{url}learn/lesson.json").json()["digits"]
    return np.frombuffer(base64.b64decode(told["pixels"]), np.uint8).reshape(-1, 28, 28), told["labels"]


def numbers(visit: Visit, selector: str) -> Floats:
    texts = visit.page.locator(selector).all_inner_texts()
    return np.asarray([float(text.lstrip("= ").replace("−", "-").replace(",", "")) for text in texts])


@pytest.mark.long
def test_convolution_and_its_size_are_those_of_keras(visit: Visit) -> None:
    for size, stride, padding in product((1, 2, 3, 5), (1, 2, 3), ("valid", "same")):
        generator = np.random.default_rng(size + stride)
        image, kernel = generator.normal(size=(11, 14)), generator.normal(size=(size, size))
        given = as_map(image), kernel.ravel().tolist(), stride, padding
        answered = compute(visit, "arithmetic.js", "return m.convolve(...given);", *given)
        expected = keras.ops.conv(image[None, ..., None], kernel[..., None, None], stride, padding)
        np.testing.assert_allclose(as_array(answered), np.asarray(expected)[0, ..., 0], atol=1e-5)
        arithmetic = compute(visit, "arithmetic.js", "return m.sizeArithmetic(...given);", 11, size, stride, padding)
        left, result = arithmetic.split(" = ")
        value = eval(left.translate(str.maketrans({"·": "*", "−": "-", "⌊": "", "⌋": ""})))
        assert int(value) == int(result) == expected.shape[1]
        assert ("⌊" in left) == (value != int(value))


@pytest.mark.long
def test_pooling_softmax_loss_and_normalization_are_those_of_numpy_and_keras(visit: Visit) -> None:
    generator = np.random.default_rng(7)
    image = generator.normal(size=(13, 9))
    for size in (2, 3, 4):
        cut = image[: 13 // size * size, : 9 // size * size]
        windows = cut.reshape(13 // size, size, 9 // size, size)
        for kind, work in (("max", np.max), ("average", np.mean), ("min", np.min)):
            answered = compute(visit, "arithmetic.js", "return m.pool(...given);", as_map(image), size, kind)
            np.testing.assert_allclose(as_array(answered), work(windows, axis=(1, 3)), atol=1e-12)
    for logits in (generator.normal(size=10) * 5, np.asarray([800.0, 0.0, -800.0])):
        answered = compute(visit, "arithmetic.js", "return m.softmax(given);", *logits.tolist())
        np.testing.assert_allclose(answered, np.asarray(keras.ops.softmax(logits.astype(np.float32))), atol=1e-6)
        for label in range(len(logits)):
            loss = compute(visit, "arithmetic.js", "return m.crossEntropy(given[0], given[1]);", answered, label)
            expected = keras.ops.sparse_categorical_crossentropy(np.asarray(label), np.asarray(answered, np.float32))
            assert loss == pytest.approx(float(expected), rel=1e-3, abs=1e-6)
    values = generator.normal(3, 2, 50)
    answered = compute(visit, "arithmetic.js", "return m.normalize(given, 1.5, -1);", *values.tolist())
    normal = layers.BatchNormalization(gamma_initializer=keras.initializers.Constant(1.5))
    expected = np.asarray(normal(values[:, None].astype(np.float32), training=True))[:, 0] - 1
    np.testing.assert_allclose(answered, expected, atol=1e-4)
    assert compute(visit, "arithmetic.js", "return given.map(m.relu);", -1.5, 0, 2) == [0, 0, 2]


@pytest.mark.long
def test_parameters_are_counted_as_keras_does(visit: Visit) -> None:
    assert "201,327,616 parameters" in visit.page.locator("#dense-count").inner_text()
    assert layers.Dense(1024).compute_output_shape((None, 256 * 256 * 3)) == (None, 1024)
    for side, channels, units in ((28, 1, 32), (64, 3, 8)):
        dense = keras.Sequential([keras.Input((side, side, channels)), layers.Flatten(), layers.Dense(units)])
        convolution = keras.Sequential([keras.Input((side, side, channels)), layers.Conv2D(units, 3)])
        counted = compute(
            visit,
            "arithmetic.js",
            "const [side, channels, units] = given;"
            "return [m.denseParameters(side, channels, units), m.convolutionParameters(3, channels, units)];",
            *(side, channels, units),
        )
        assert counted == [dense.count_params(), convolution.count_params()]


def kept(name: str) -> Any:
    return json.loads((LEARN / f"{name}.json").read_text(encoding="utf-8"))


def in_keras(network: dict[str, Any], depth: int) -> keras.Model:
    """A network of the lesson as the rung that it was trained as, batch normalization being in its weights."""
    choices: dict[str, Any] = {} if network["rung"] == "dense" else {"depth": depth, "batch_norm": False}
    model = build_model(network["rung"], (28, 28, 1), 10, **choices)
    model.set_weights(list(weights_of(network["layers"])))
    return model


def weights_of(described: list[dict[str, Any]]) -> Iterator[Floats]:
    for layer in described:
        if "weights" in layer:
            stored = np.frombuffer(base64.b64decode(layer["weights"]), np.int8)
            yield stored.reshape(layer["shape"]) * layer["scale"]
            yield np.asarray(layer["bias"])
        yield from weights_of(layer.get("layers", []))


ANSWERS = (
    "const network = m.readNetwork(given[0]);"
    "return given[1].map((pixels) => m.answer(network, pixels, given[2]).probabilities);"
)


@pytest.mark.long
def test_the_lessons_own_networks_answer_as_in_keras(visit: Visit, url: str, mnist: cl.Dataset) -> None:
    images, _ = digits(url)
    for network in kept("networks"):
        model = in_keras(network, depth=5)
        answered = compute(visit, "network.js", ANSWERS, network, images.reshape(-1, 784).tolist(), None)
        np.testing.assert_allclose(answered, model.predict(images[..., None], verbose=0), atol=1e-4)
        some = mnist.test.images[:2000]
        right = model.predict(some, verbose=0).argmax(axis=1) == mnist.test.labels[:2000]
        assert right.mean() == pytest.approx(network["accuracy"], abs=0.02)


@pytest.mark.long
def test_a_block_that_is_switched_off_is_left_out_as_in_keras(visit: Visit, url: str, mnist: cl.Dataset) -> None:
    images, _ = digits(url)
    some = mnist.test.images[:1000]
    visit.page.locator("#digits button").first.click()
    for index, network in enumerate(kept("blocks")):
        model = in_keras(network, depth=14)
        for off in (None, 0, 4):
            if off is None:
                work, accuracy = model.predict, network["accuracy"]
            else:
                block = (
                    model.get_layer(f"stage{off + 2}_conv1").input,
                    model.get_layer(f"stage{off + 2}_conv2_relu").output,
                )
                before, after = keras.Model(model.input, block[0]), keras.Model(block[1], model.output)
                work, accuracy = chain(before, after), network["without"][off]
            expected = work(images[..., None], verbose=0)
            answered = compute(visit, "network.js", ANSWERS, network, images.reshape(-1, 784).tolist(), off)
            np.testing.assert_allclose(answered, expected, atol=1e-3)
            right = work(some, verbose=0).argmax(axis=1) == mnist.test.labels[:1000]
            assert right.mean() == pytest.approx(accuracy, abs=0.04)
            visit.page.select_option("#block", "" if off is None else str(off))
            assert visit.page.locator(f"#stack-{index}").inner_text() == str(expected[0].argmax())
            told = f"{100 * accuracy:.1f} %"
            assert told in visit.page.locator(f"#stack-{index}-sure").inner_text()
            assert told in visit.page.locator("#blocks-measured .here").inner_text()


def chain(before: keras.Model, after: keras.Model) -> Any:
    return lambda images, verbose: after.predict(before.predict(images, verbose=verbose), verbose=verbose)


@pytest.mark.long
def test_what_each_place_adds_to_a_logit_is_that_of_keras(visit: Visit, url: str) -> None:
    image = digits(url)[0][3]
    visit.page.locator("#digits button").nth(3).click()
    network = kept("networks")[1]
    model = in_keras(network, depth=5)
    maps = keras.Model(model.input, model.get_layer("global_pool").input).predict(image[None, ..., None], verbose=0)[0]
    kernel, bias = model.get_layer("logits").get_weights()
    for label in (0, 7):
        answered = compute(
            visit,
            "network.js",
            "return m.evidence(m.readNetwork(given[0]), given[1], given[2]);",
            *(network, image.ravel().tolist(), label),
        )
        places = maps @ kernel[:, label] / maps[..., 0].size
        np.testing.assert_allclose(as_array(answered["map"]), places, atol=1e-4)
        visit.page.select_option("#evidence-class", str(label))
        told = visit.page.locator("#evidence-sum").inner_text().replace("−", "-")
        shown = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", told)]
        assert shown[1:3] == pytest.approx([places.sum(), bias[label]], abs=0.0051)
        assert shown[4] == pytest.approx(places.sum() + bias[label], abs=0.0051)


@pytest.mark.long
def test_relu_and_normalization_of_the_feature_map_are_those_of_numpy(visit: Visit, url: str) -> None:
    image = digits(url)[0][0] / 255
    kernel = np.asarray([[1, 0, -1]] * 3)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3)).reshape(26, 26, 9)
    map_ = np.cumsum(windows * kernel.ravel(), axis=2)[..., -1]  # one after the other, as the page adds
    told = visit.page.locator("#relu-caption").inner_text()
    assert f"{(map_ < 0).sum()} of {map_.size} values" in told
    map_ = 2.4 * map_
    visit.page.locator("#times").fill("2.4")
    visit.page.locator("#scale").fill("2")
    visit.page.locator("#offset").fill("-1")
    for name, values in (("before", map_), ("after", (map_ - map_.mean()) / np.sqrt(map_.var() + 0.001) * 2 - 1)):
        told = visit.page.locator(f"#spread-{name}-caption").inner_text().replace("−", "-")
        mean, deviation = (float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", told)[:2])
        assert (mean, deviation) == pytest.approx((values.mean(), values.std()), abs=0.0051)


@pytest.mark.long
def test_the_branches_of_an_inception_module_are_those_of_keras(visit: Visit) -> None:
    image = np.random.default_rng(3).uniform(size=(9, 7))
    answered = compute(visit, "arithmetic.js", "return m.pool(given[0], 3, 'max', 1, 'same');", as_map(image))
    expected = np.asarray(layers.MaxPooling2D(3, 1, padding="same")(image[None, ..., None].astype(np.float32)))
    np.testing.assert_allclose(as_array(answered), expected[0, ..., 0], atol=1e-6)
    visit.page.locator("#inputs").fill("64")
    naive = keras.Sequential([keras.Input((8, 8, 64)), layers.Conv2D(12, 5)]).count_params()
    reduced = keras.Sequential([keras.Input((8, 8, 64)), layers.Conv2D(6, 1), layers.Conv2D(12, 5)]).count_params()
    told = visit.page.locator("#module-arithmetic").inner_text()
    assert f"= {naive:,} parameters" in told
    assert told.endswith(f"= {reduced:,}.")


@pytest.mark.long
def test_fewer_epochs_show_what_they_gave(visit: Visit) -> None:
    for name in ("rates", "regularized", "normalized"):
        box = visit.page.locator(f"[data-experiment={name}]")
        experiment = kept("experiments")[name]
        for epochs in (len(next(iter(experiment["curves"].values()))["loss"]), 3):
            box.locator("input").fill(str(epochs))
            assert f"After epoch {epochs}. {experiment['about']}" in box.locator("caption").inner_text()
            for row, curves in zip(box.locator("tbody tr").all(), experiment["curves"].values(), strict=True):
                shown = [float(text.split(" ")[0]) for text in row.locator("td").all_inner_texts()]
                last = {measure: values[epochs - 1] for measure, values in curves.items()}
                lowest = min(curves["val_loss"][:epochs])
                shares = [100 * last["accuracy"], 100 * last["val_accuracy"]]
                assert shown[:2] == pytest.approx(shares, abs=0.051)
                assert shown[2:] == pytest.approx([last["loss"], last["val_loss"], lowest], abs=0.0051)


@pytest.mark.long
def test_moving_the_kernel_shows_the_right_nine_products(visit: Visit, url: str) -> None:
    image = digits(url)[0][0] / 255
    visit.page.locator("#digits button").first.click()
    visit.page.locator("#spoken", has_text="says 0").wait_for(state="attached")  # else it would be said in between
    visit.page.select_option("#kernel", "horizontal edges")
    output = visit.page.locator("#convolution-output")
    output.click(position={"x": 100, "y": 90})
    for key, down, across in (("ArrowRight", 0, 1), ("ArrowDown", 1, 0), ("ArrowLeft", 0, -1)):
        row, column = place(visit)
        output.press(key)
        assert place(visit) == (row + down, column + across)
        row, column = place(visit)
        window = image[row : row + 3, column : column + 3]
        kernel = np.asarray([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
        np.testing.assert_allclose(numbers(visit, "#products .pixel"), window.ravel(), atol=0.0051)
        np.testing.assert_allclose(numbers(visit, "#products .product"), (window * kernel).ravel(), atol=0.0051)
        told = visit.page.locator("#total").inner_text()
        assert float(told.split(": ")[1].split(". ")[0].replace("−", "-")) == pytest.approx(
            (window * kernel).sum(), abs=0.0051
        )
        assert told in visit.page.locator("#spoken").inner_text()
    # One's own number, with padding and stride: the frame then starts a row above the picture.
    visit.page.locator("#products input").nth(4).fill("2.5")
    assert visit.page.locator("#kernel").input_value() == "own"
    visit.page.select_option("#padding", "same")
    visit.page.select_option("#stride", "2")
    assert visit.page.locator("#size-arithmetic").inner_text() == "(28 + 0 + 1 − 3) / 2 + 1 = 14"
    row, column = place(visit)
    padded = np.pad(image, (0, 1))
    np.testing.assert_allclose(
        numbers(visit, "#products .pixel"),
        padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3].ravel(),
        atol=0.0051,
    )


def place(visit: Visit) -> tuple[int, int]:
    """Row and column of the output that is shown, from 0."""
    found = re.search(r"row (\d+), column (\d+)", visit.page.locator("#total").inner_text())
    assert found
    return int(found[1]) - 1, int(found[2]) - 1


@pytest.mark.long
def test_a_shift_changes_pooled_maps_as_numpy_says(visit: Visit, url: str) -> None:
    image = digits(url)[0][1] / 255
    visit.page.locator("#digits button").nth(1).click()
    moved = np.roll(image, 1, axis=1)
    halves = [one.reshape(14, 2, 14, 2).max(axis=(1, 3)) for one in (image, moved)]
    before = abs(image - moved).sum() / image.sum()
    after = abs(halves[0] - halves[1]).sum() / halves[0].sum()
    told = visit.page.locator("#pooling-difference").inner_text()
    assert [int(share) for share in re.findall(r"(\d+) %", told)] == [round(100 * before), round(100 * after)]


@pytest.mark.long
@both
def test_the_answers_under_a_shift_are_those_of_the_network(
    visit: Visit, url: str, classifiers: dict[str, cl.Classifier]
) -> None:
    images, labels = digits(url)
    visit.page.locator("#digits button").nth(2).click()
    visit.settle()
    name = visit.page.eval_on_selector("#network-b", "one => one.selectedOptions[0].textContent")
    assert ("mine" in name) == bool(classifiers)
    row = [int(text) for text in visit.page.locator("#row-b span").all_inner_texts()]
    assert len(row) == 17
    if classifiers:
        shifts = [np.roll(images[2], across, axis=1) for across in range(-3, 4)]
        expected = classifiers["mine"].predict_probabilities(np.stack(shifts)[..., None]).argmax(axis=1)
        assert row[5:12] == expected.tolist()
    assert f"at {row.count(labels[2])} of 17" in visit.page.locator("#kept-b").inner_text()


@pytest.mark.long
@both
def test_the_kernels_of_a_run_can_be_chosen(visit: Visit, classifiers: dict[str, cl.Classifier], run: cl.Run) -> None:
    visit.page.select_option("#kernel", "0/1")
    shown = visit.page.eval_on_selector_all("#products input", "all => all.map(one => one.valueAsNumber)")
    if classifiers:
        kernel = run.load_model().get_layer("stage1_conv").get_weights()[0][:, :, 0, 1]
        np.testing.assert_allclose(shown, kernel.ravel(), atol=0.0051)
        assert visit.page.locator("#size").input_value() == str(len(kernel))
    assert visit.page.locator("#kernel optgroup").nth(1).get_attribute("label") == (
        "learnt by mine" if classifiers else "learnt by the lesson’s network"
    )


@pytest.mark.long
def test_the_keyboard_alone_is_enough_for_the_lesson(visit: Visit) -> None:
    keyboard = visit.page.keyboard
    controls = visit.page.eval_on_selector_all(
        "main button, main select, main summary, main canvas[tabindex], main input:not([type=radio])",
        "all => all.map((one, index) => (one.dataset.number = index))",
    )
    reached = []
    for _ in range(3 * len(controls)):
        keyboard.press("Tab")
        name, number = visit.page.evaluate("[document.activeElement.id, document.activeElement.dataset.number]")
        reached += [int(number)] if number else []
        if name == "pad":
            for key in (" ", *["ArrowDown"] * 8):
                keyboard.press(key)
        if name in ("across", "evidence-class", "block"):
            keyboard.press("ArrowRight")
        if name == "convolution-output":
            before = place(visit)
            keyboard.press("ArrowUp")
            assert place(visit)[0] == before[0] - 1
        if name == "pooling-input":
            window = visit.page.locator("#pooling-input").get_attribute("aria-label")
            keyboard.press("ArrowDown")
            assert visit.page.locator("#pooling-input").get_attribute("aria-label") != window
        if reached and reached[-1] == len(controls) - 1:
            break
    assert reached == list(range(len(controls)))  # in the order in which they are read
    keyboard.press("Enter")  # on the last question
    assert visit.page.locator("details").last.locator("p").is_visible()
    visit.settle()
    assert visit.page.locator("#across-shown").inner_text() == "1 right"
    assert "Your drawing" in visit.page.locator("#shifted-caption").inner_text()
    assert visit.page.locator("#blocks-measured tbody tr").nth(1).get_attribute("class") == "here"


@pytest.mark.long
def test_a_number_out_of_range_is_not_used(visit: Visit) -> None:
    weight, total = visit.page.locator("#products input").nth(1), visit.page.locator("#total")
    before = total.inner_text(), weight.input_value()
    for typed in ("1e300", "-101", ""):
        weight.fill(typed)
        assert total.inner_text() == before[0]
        weight.press("Tab")
        assert weight.input_value() == before[1]
    visit.page.locator("#products input").nth(1).fill("-100")
    assert visit.page.locator("#kernel").input_value() == "own"


@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1280, "dark"), (1280, "light")])
def test_the_lesson_suits_everyone(browser: Browser, url: str, width: int, scheme: str) -> None:
    visit = Visit(browser, f"{url}learn", width, scheme)
    for details in visit.page.locator("details").all():
        details.evaluate("one => (one.open = true)")
    found = Axe().run(visit.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.complaints == []
    visit.close()


@pytest.mark.long
def test_logits_become_probabilities_and_a_loss(visit: Visit) -> None:
    for index in range(10):
        visit.page.get_by_label(f"Logit of class {index}", exact=True).fill("2" if index == 3 else "0")
    visit.page.get_by_label("3 is the right class").check()
    probability = np.exp(2) / (np.exp(2) + 9)
    told = visit.page.locator("#loss").inner_text()
    assert f"{-np.log(probability):.3f}" in told
    assert "is right" in told
    visit.page.get_by_label("4 is the right class").check()
    told = visit.page.locator("#loss").inner_text()
    assert f"{-np.log(1 / (np.exp(2) + 9)):.3f}" in told
    assert "The answer, 3, is wrong" in told


@pytest.mark.long
def test_each_subject_ends_with_a_measurement_two_questions_and_code(visit: Visit) -> None:
    for section in visit.page.locator(".lessons > section").all():
        headings = section.locator("h3").all_inner_texts()
        assert headings[-3:] == ["What the ladder measured", "Predict, then look", "In Keras"]
        assert section.locator("[data-models] tbody tr").count() >= 2
        assert section.locator("details").count() == 2
        assert not section.locator("details p").first.is_visible()
        for place_of in section.locator("[data-pair], [data-claim], [data-shifts], .chart").all():
            assert place_of.inner_text()
