"""The application: right answers, refusals of one shape, a key where one is set."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import convladder as cl
from convladder.serving.application import create_application
from convladder.serving.limits import Limits, parse_limits
from convladder.serving.refusals import Refusal
from convladder.serving.uploads import read_pictures
from served import Client, png

LIMITS = Limits(body=100_000, pixels=500_000, images=8)
BASE = "http://127.0.0.1"
ERROR_KEYS = {"error", "code", "status"}


@pytest.fixture(scope="module")
def app(run: cl.Run) -> Starlette:
    return create_application({"first": run.classifier(), "second": run.classifier()}, LIMITS)


@pytest.fixture(scope="module")
def client(app: Starlette) -> Client:
    return Client(app)


@pytest.fixture(scope="module")
def digits(small: cl.Dataset) -> list[bytes]:
    return [png(image) for image in small.test.images[:64]]


def form(pictures: list[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (f"{number}.png", picture, "image/png")) for number, picture in enumerate(pictures)]


def test_answers_are_those_of_the_run(client: Client, run: cl.Run, digits: list[bytes]) -> None:
    said = client.post("/predict?probabilities=true&top=3", files=form(digits[:8])).json()
    assert said["model"] == "first"
    for number, (item, expected) in enumerate(zip(said["predictions"], run.predictions["probabilities"], strict=False)):
        assert item["source"] == f"{number}.png"
        assert item["probabilities"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert item["label"] == str(expected.argmax())
        assert item["abstained"] == (item["probability"] < run.classifier().threshold)
        order = expected.argsort()[::-1][:3]
        assert [name for name, _ in item["top"]] == [str(label) for label in order]
    assert len(said["predictions"]) == 8


def test_a_picture_may_be_the_body(client: Client, digits: list[bytes]) -> None:
    (expected,) = client.post("/predict", files=form(digits[:1])).json()["predictions"]
    for kind in ("image/png", "application/octet-stream"):
        said = client.post("/predict?model=second", content=digits[0], headers={"content-type": kind}).json()
        assert said["model"] == "second"
        assert said["predictions"] == [expected | {"source": ""}]


def test_a_threshold_makes_it_abstain(run: cl.Run, digits: list[bytes]) -> None:
    classifier = run.classifier()
    classifier.threshold = 1.1
    client = Client(create_application({"careful": classifier}))
    (said,) = client.post("/predict", files=form(digits[:1])).json()["predictions"]
    assert said["abstained"] is True


def test_requests_that_come_together_get_their_own_answers(app: Starlette, run: cl.Run, digits: list[bytes]) -> None:
    """Small pictures of one turn of the event loop share a batch; a packed request goes to a thread meanwhile."""

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            alone = [client.post("/predict", files=form([picture])) for picture in digits]
            return await asyncio.gather(*alone, client.post("/predict", files=form(digits[:8])))

    *alone, packed = asyncio.run(ask())
    expected = run.predictions["probabilities"].max(axis=1).tolist()
    assert [a.json()["predictions"][0]["probability"] for a in alone] == pytest.approx(expected[:64], abs=1e-5)
    assert [p["probability"] for p in packed.json()["predictions"]] == pytest.approx(expected[:8], abs=1e-5)


def test_a_bad_picture_among_good_ones_has_its_error_in_its_place(client: Client, digits: list[bytes]) -> None:
    answer = client.post("/predict", files=form([digits[0], b"no picture", digits[1], digits[2][:60]]))
    good, text, other, cut = answer.json()["predictions"]
    assert answer.status_code == 200
    assert "label" in good
    assert "label" in other
    assert (text["source"], text["code"], text["status"]) == ("1.png", "no_picture", 415)
    assert (cut["source"], cut["code"], cut["status"]) == ("3.png", "truncated", 422)


IMAGE = {"content-type": "image/png"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("POST /predict", {"content": b""}, 400, "no_images"),
    ("POST /predict", {"content": b"no picture", "headers": IMAGE}, 415, "no_picture"),
    ("POST /predict", {"content": "truncated", "headers": IMAGE}, 422, "truncated"),
    ("POST /predict", {"content": "bomb", "headers": IMAGE}, 413, "too_many_pixels"),
    ("POST /predict", {"content": b"x" * 100_001, "headers": IMAGE}, 413, "body_too_large"),
    ("POST /predict", {"content": "chunks", "headers": IMAGE}, 413, "body_too_large"),
    ("POST /predict", {"content": b"{}", "headers": {"content-type": "application/json"}}, 415, "wrong_content_type"),
    ("POST /predict", {"content": b"x", "headers": IMAGE | {"content-encoding": "gzip"}}, 415, "compressed"),
    ("POST /predict", {"files": [("f", (f"{n}.png", b"x")) for n in range(9)]}, 413, "too_many_images"),
    ("POST /predict", {"files": form([b"x", b"y"])}, 422, "no_images"),
    ("POST /predict", {"data": {"model": "first"}, "files": form([b"x"])}, 400, "no_file"),
    ("POST /predict", {"content": b"--x\r\n", "headers": MULTIPART}, 400, "bad_multipart"),
    ("POST /predict", {"content": b"--x--", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_multipart"),
    ("POST /predict", {"content": b"preamble\r\n--x--", "headers": MULTIPART}, 400, "bad_multipart"),
    ("POST /predict", {"content": b"--x\r\nno header\r\n--x--", "headers": MULTIPART}, 400, "bad_multipart"),
    ("POST /predict?model=frist", {"content": b"x", "headers": IMAGE}, 404, "no_such_model"),
    ("POST /predict?top=0", {"content": b"x", "headers": IMAGE}, 422, "bad_query"),
    ("POST /predict?top=many", {"content": b"x", "headers": IMAGE}, 422, "bad_query"),
    ("POST /predict?probabilities=maybe", {"content": b"x", "headers": IMAGE}, 422, "bad_query"),
    ("GET /predict", {}, 405, "method_not_allowed"),
    ("GET /nothing", {}, 404, "not_found"),
    ("POST /look/first?maps=x", {"content": b"x"}, 422, "bad_request"),
    ("GET /failing", {}, 500, "failed"),
    ("GET /v2", {"headers": {"host": "evil.example"}}, 421, "wrong_host"),
    ("GET /v2", {"headers": {"host": "127.0.0.1.evil.example:80"}}, 421, "wrong_host"),
    ("POST /predict", {"content": b"x", "headers": IMAGE | {"origin": "http://evil.example"}}, 403, "wrong_origin"),
    ("POST /predict", {"content": b"x", "headers": IMAGE | {"origin": "null"}}, 403, "wrong_origin"),
    ("POST /predict", {"content": b"x", "headers": IMAGE | {"origin": "http://127.0.0.1:81"}}, 403, "wrong_origin"),
    ("GET /v2/models/third", {}, 404, "no_such_model"),
    ("GET /v2/models/first/versions/2", {}, 404, "no_such_model"),
    ("POST /v2/models/third/infer", {"content": b"{}"}, 404, "no_such_model"),
    ("POST /v2/models/first/infer", {"content": b"no JSON"}, 400, "bad_inference_request"),
    ("POST /v2/models/first/infer", {"content": b"[" * 90_000}, 400, "bad_inference_request"),
    ("POST /v2/models/first/infer", {"content": b"[]"}, 400, "bad_inference_request"),
    ("POST /v2/models/first/infer", {"json": {"inputs": []}}, 400, "bad_inference_request"),
]


async def chunks() -> AsyncIterator[bytes]:
    """A body that states no length."""
    for _ in range(2):
        yield b"x" * 60_000


@pytest.mark.parametrize(("asked", "content", "status", "code"), REFUSED)
def test_every_refusal_has_one_shape(
    run: cl.Run, small: cl.Dataset, asked: str, content: dict[str, Any], status: int, code: str
) -> None:
    app = create_application({"first": run.classifier()}, LIMITS)

    async def failing(_request: Request) -> Response:
        raise RuntimeError("on purpose")

    app.add_route("/failing", failing)
    if content.get("content") == "chunks":
        content = content | {"content": chunks()}
    if content.get("content") == "truncated":
        content = content | {"content": png(small.test.images[0])[:100]}
    if content.get("content") == "bomb":
        content = content | {"content": png(np.zeros((3000, 3000, 1), np.uint8))}
    method, path = asked.split()
    client = Client(app)
    answer = client.request(method, path, **content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == ERROR_KEYS
    assert answer.json()["status"] == status
    assert answer.json()["error"]
    assert "on purpose" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def tensor(**changes: Any) -> dict[str, Any]:
    given = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": [0] * 784}
    return {"inputs": [given | changes]}


@pytest.mark.parametrize(
    "asked",
    [
        tensor(name="pixels"),
        tensor(datatype="BYTES"),
        tensor(shape=[1, 28, 28]),
        tensor(shape=[2, 28, 28, 1]),
        tensor(shape=[True, 28, 28, 1]),
        tensor(data=[0] * 783),
        tensor(data=[256] * 784),
        tensor(data=[0.5] * 784),
        tensor(data=["0"] * 783 + ["x"]),
        tensor(data=[[0], [0, 1]]),
        tensor(data=None),
        tensor(datatype="FP32", data=[float("nan")] * 784),
        tensor(parameters={"binary_data_size": 784}),
        tensor() | {"outputs": [{"name": "logits"}]},
        tensor() | {"outputs": 5},
        tensor(data=[1e300] * 784),
        tensor(data=[10**400] + [0] * 783),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(client: Client, asked: dict[str, Any]) -> None:
    answer = client.post("/v2/models/first/infer", content=json.dumps(asked))
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_inference_request")


def test_too_many_rows_are_refused(client: Client) -> None:
    answer = client.post("/v2/models/first/infer", json=tensor(shape=[9, 28, 28, 1], data=[0] * 9 * 784))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_images")


def test_a_server_that_is_busy_says_when_to_come_back(run: cl.Run, digits: list[bytes]) -> None:
    app = create_application({"first": run.classifier()}, Limits(requests=2))

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            return await asyncio.gather(*(client.post("/predict", files=form(digits[:1])) for _ in range(6)))

    answers = asyncio.run(ask())
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 4
    for answer in answers:
        if answer.status_code == 503:
            assert set(answer.json()) == ERROR_KEYS
            assert int(answer.headers["retry-after"]) >= 1


def test_a_key_is_asked_for_where_one_is_set(run: cl.Run) -> None:
    app = create_application({"first": run.classifier()}, api_key="secret", hosts=())
    client = Client(app, "http://anything.example")
    for headers in ({}, {"x-api-key": "secre"}, {"authorization": "Bearer x"}, {"authorization": "Basic ?"}):
        answer = client.get("/v2/models/first", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "no_key")
        assert answer.headers["www-authenticate"].startswith("Basic")
    assert client.get("/v2/models/first", headers={"x-api-key": "secret"}).status_code == 200
    assert client.get("/v2/models/first", headers={"authorization": "Bearer secret"}).status_code == 200
    assert client.get("/v2/models/first", auth=("anyone", "secret")).status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/openapi.json", auth=("", "secret")).json()["security"]


def test_a_page_of_this_server_may_ask(client: Client) -> None:
    assert client.get("/v2", headers={"origin": BASE}).status_code == 200
    for host in ("localhost:8000", "[::1]:8000", "LOCALHOST"):
        assert client.get("/v2", headers={"host": host}).status_code == 200


def test_what_is_there_is_described(app: Starlette, client: Client) -> None:
    document = client.get("/openapi.json").json()
    own = {"/openapi.json", "/docs", "/docs.css"}
    routes = {route.path for route in app.routes if isinstance(route, Route)}
    described = set(document["paths"])
    assert described == {path for path in routes if path.startswith(("/predict", "/v2", "/metrics"))}
    assert own <= routes
    for schema in json.dumps(document).split("#/components/schemas/")[1:]:
        assert schema.partition('"')[0] in document["components"]["schemas"]
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "POST /predict" in page.text
    assert "http://" not in page.text.replace("localhost:8000", "")
    assert "https://" not in page.text
    assert "<script" not in page.text
    assert client.get("/docs.css").headers["content-type"].startswith("text/css")


def test_what_happened_is_counted(run: cl.Run, digits: list[bytes]) -> None:
    client = Client(create_application({"first": run.classifier()}))
    client.post("/predict", files=form(digits[:3]))
    client.post("/predict", content=b"x", headers=IMAGE)
    client.get("/nothing")
    lines = client.get("/metrics").text.splitlines()
    assert 'convladder_requests_total{route="/predict",status="200"} 1.0' in lines
    assert 'convladder_requests_total{route="/predict",status="415"} 1.0' in lines
    assert 'convladder_requests_total{route="none",status="404"} 1.0' in lines
    assert 'convladder_request_seconds_count{route="/predict"} 2.0' in lines
    assert 'convladder_images_total{model="first"} 3.0' in lines
    assert 'convladder_refusals_total{code="no_picture"} 1.0' in lines
    assert "convladder_requests_in_flight 1.0" in lines  # this one


def test_forms_are_split_as_they_were_built() -> None:
    """Against httpx, which builds them: content may hold anything but the boundary."""
    random = np.random.default_rng(0)
    contents = [random.bytes(int(size)) for size in (0, 1, 500, 3000)] + [b"\r\n--", b"--\r\n\r\n", b"\r\n" * 9]
    names = ["a.png", "häßlich.png", 'quo"te.png', "back\\slash.png", "semi;colon.png", "", "x"]
    files = [("f", (name or "empty", content)) for name, content in zip(names, contents, strict=True)]
    request = httpx.Request("POST", "http://localhost", files=files)
    pictures = read_pictures(request.read(), request.headers["content-type"], 7)
    assert [content for _, content in pictures] == contents
    assert [name for name, _ in pictures][:2] == names[:2]


def test_a_form_is_read_as_the_standard_says_and_never_guessed(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 2046, section 5.1.1, and RFC 7578. What is wrong is answered, and logged nowhere."""

    def read(body: bytes) -> list[tuple[str, bytes]] | str:
        try:
            return read_pictures(body, "multipart/form-data; boundary=x", 2)
        except Refusal as refusal:
            return refusal.code

    head = b'Content-Disposition: form-data; name="f"; filename="a.png"\r\n'
    part = head + b"\r\na\r\n"
    one = [("a.png", b"a")]
    assert read(b"--x\r\n" + part + b"--x--") == one
    assert read(b"\r\n\r\n--x\r\n" + part + b"--x \t\r\n" + part + b"--x--\r\nafter it") == one * 2
    assert read(b"--x\r\nContent-Type: image/png\r\nX-Empty:\r\n" + part + b"--x--") == one
    assert read(b"--x\r\n" + part.lower() + b"--x--") == one
    assert read(b"--x\r\n" + head + b"\r\n\r\n--x--") == [("a.png", b"")]
    assert read(b"--x\r\n" + head + b"\r\na\r\n--xy--x\r\n--x--") == [("a.png", b"a\r\n--xy--x")]
    for broken in (
        b"",
        part,
        b"--x\r\n" + part,
        b"--x\r\n" + part + b"--x-",
        b"before it\r\n--x\r\n" + part + b"--x--",
        b"--x\r\n\r\na\r\n--x--",
        b"--x\r\n" + b"no header\r\n" + part + b"--x--",
        b"--y\r\n" + part + b"--y--",
        b"--x\n" + part.replace(b"\r", b"") + b"--x--",
    ):
        assert read(broken) == "bad_multipart", broken
    assert read(b"--x\r\n" + part + (b"--x\r\n" + part) * 2 + b"--x--") == "too_many_images"
    assert read(b"--x\r\n" + head + b"\r\n" + b"\r\n--xy" * 500_000 + b"\r\n--x--") == "too_many_images"
    assert read(b"--x\r\n" + part.replace(b"filename", b"file") + b"--x--") == "no_file"
    assert read(b"--x--") == "no_images"
    assert not caplog.records


def test_limits_are_read() -> None:
    assert parse_limits("") == Limits()
    assert parse_limits("body=5, seconds=1.5") == Limits(body=5, seconds=1.5)
    for wrong in ("bodies=5", "body", "body=x", "body=0", "seconds=nan"):
        with pytest.raises(cl.ConvladderError, match="Expected"):
            parse_limits(wrong)


def test_serving_imports_neither_keras_nor_tensorflow(run: cl.Run) -> None:
    script = (
        "import sys\n"
        "from convladder.cli import main\n"
        "import uvicorn\n"
        "uvicorn.Server.run = lambda *_: None\n"  # all is loaded, and nothing waits for requests
        f"sys.argv = ['convladder', 'serve', {str(run.path)!r}, '--port', '0']\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'keras', 'tensorflow', 'sklearn', 'scipy', 'onnx', 'matplotlib'} & set(sys.modules)\n"
        "    heavy |= {'cleanlab', 'jinja2', 'pydantic'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
