"""An .onnx file of before familiarity, as an earlier version wrote it: it predicts, and does not tell.

It is of `tiny`, trained by the commit 0cca878 on 4,000 digits for four epochs, of which it is right on 91.6 %.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from browsing import Visit, open_browser, serve_here
from convladder.serving.application import create_application
from served import Client, png

FILE = Path(__file__).parent / "data" / "before-familiarity.onnx"
PROBABILITIES = (0.997905, 0.946832, 0.997320)  # what that version said of the first test digits, 7, 2 and 1


@pytest.fixture(scope="module")
def client() -> Client:
    return Client(create_application({"old": cl.Classifier(FILE, threads=1)}))


@pytest.fixture
def folder(mnist: cl.Dataset, tmp_path: Path) -> Path:
    for number, pixels in enumerate([*mnist.test.images[:3], 255 - mnist.test.images[0]]):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_file_of_before_predicts_what_it_did(folder: Path) -> None:
    answers = list(cl.Classifier(FILE).predict([folder / f"{number}.png" for number in range(3)]))
    predictions = [answer for answer in answers if isinstance(answer, cl.Prediction)]
    assert [one.label for one in predictions] == ["7", "2", "1"]
    assert [one.probability for one in predictions] == pytest.approx(PROBABILITIES, abs=1e-4)


def test_the_command_says_null_for_what_a_file_of_before_does_not_tell(
    convladder: Any,
    folder: Path,
) -> None:
    said = convladder("predict", FILE, "0.png", "3.png", "--json")
    for line in map(json.loads, said.out.splitlines()):
        assert (line["familiarity"], line["unlike_training"]) == (None, None)
    assert "unlike" not in convladder("predict", FILE, "0.png", "3.png").out
    header, row = convladder("predict", FILE, "3.png", "--csv").out.splitlines()
    told = dict(zip(header.split(","), row.split(","), strict=True))
    assert (told["familiarity"], told["unlike_training"], told["error"]) == ("", "", "")


def test_both_protocols_serve_a_file_of_before(client: Client, mnist: cl.Dataset) -> None:
    image = mnist.test.images[0]
    (said,) = client.post("/predict", content=png(image)).json()["predictions"]
    assert (said["label"], said["familiarity"], said["unlike_training"]) == ("7", None, None)
    assert said["probability"] == pytest.approx(PROBABILITIES[0], abs=1e-4)
    described = client.get("/v2/models/old").json()
    assert [output["name"] for output in described["outputs"]] == ["probabilities"]
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    (output,) = client.post("/v2/models/old/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert output["name"] == "probabilities"
    assert max(output["data"]) == pytest.approx(PROBABILITIES[0], abs=1e-4)
    refused = client.post("/v2/models/old/infer", json={"inputs": [tensor], "outputs": [{"name": "familiarity"}]})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_inference_request")
    *probabilities, familiarity = np.frombuffer(client.post("/look/old", content=image.tobytes()).content, "<f4")
    assert max(probabilities) == pytest.approx(PROBABILITIES[0], abs=1e-4)
    assert np.isnan(familiarity)


@pytest.mark.long
def test_the_page_shows_a_file_of_before_and_says_nothing_of_strangeness(folder: Path) -> None:
    with open_browser() as browser, serve_here({"old": cl.Classifier(FILE, threads=1)}) as url:
        visit = Visit(browser, url)
        for name, label in (("0", "7"), ("3", "")):
            visit.file(str(folder / f"{name}.png"))
            assert visit.label() == label or not label
            assert "unlike" not in visit.page.locator("#sure-a").inner_text()
        visit.close()
        assert visit.complaints == []
