"""The OpenAPI document, against its specification and against a real server: all that it says is answered so."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import reduce
from operator import getitem
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

import convladder as cl
from convladder.serving.application import ROUTES
from convladder.serving.documentation import FOLDER, read_document
from convladder.serving.limits import Limits
from served import Wire, png, started

CONNECTIONS = 12
JSON_LENGTH = "Inference-Header-Content-Length"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def server(run: cl.Run) -> Iterator[str]:
    limits = f"body=100000,images=8,connections={CONNECTIONS},seconds=2"
    with started(str(run.path), "--limits", limits) as (_, url, _port):
        yield url


@pytest.fixture(scope="module")
def document(server: str) -> Document:
    found: Document = httpx.get(f"{server}/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def image(small: cl.Dataset) -> Any:
    return small.test.images[:1]


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield path, method.upper(), item[method]


def resolve(document: Document, item: Document) -> Document:
    return reduce(getitem, item["$ref"].split("/")[1:], document) if "$ref" in item else item


def closed(document: Document) -> Document:
    """Its schemas without the licence to say more than they name."""

    def close(part: Document) -> Document:
        return part | {"additionalProperties": False} if part.get("type") == "object" and "properties" in part else part

    components: Document = json.loads(json.dumps(document["components"]), object_hook=close)
    return components


def check(document: Document, schema: Document, content: Any) -> None:
    """Content is all that the schema requires, and nothing that it does not name."""
    Draft202012Validator(schema | {"components": closed(document)}).validate(content)


def answered(path: str, kind: str, image: Any, document: Document) -> Document:
    """A request of this content type that is answered with 200."""
    pixels = image.tobytes()
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(image.shape)}
    plain = {"inputs": [tensor | {"data": image.ravel().tolist()}], "id": "7"}
    binary = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(pixels)}}],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        "parameters": {"binary_data_output": False},
    }
    for asked in (plain, binary):
        check(document, {"$ref": "#/components/schemas/InferenceRequest"}, asked)
    if kind == "multipart/form-data":
        return {"files": [("f", ("digit.png", png(image[0]))), ("f", ("notes.png", b"no picture"))]}
    if path == "/predict":
        return {"content": png(image[0]), "headers": {"content-type": kind.replace("*", "png")}}
    if kind == "application/json":
        return {"json": plain}
    if kind == "application/octet-stream":
        head = json.dumps(binary).encode()
        return {"content": head + pixels, "headers": {"content-type": kind, JSON_LENGTH: str(len(head))}}
    return {}


REFUSED: dict[str, Document] = {
    "400": {"content": b""},
    "404": {"params": {"model": "nobody"}, "content": b"x"},
    "413": {"content": bytes(100_001)},
    "415": {"content": b"no picture", "headers": {"content-type": "image/png"}},
    "422": {"params": {"top": "0"}, "content": b"x"},
    "503": {},
    "default": {"headers": {"origin": "http://evil.example"}},
}


def too_slow(url: str, method: str, path: str) -> httpx.Response:
    with Wire(int(url.rpartition(":")[2])) as wire:
        wire.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n".encode())
        status, headers, body = wire.answer()
    return httpx.Response(status, headers=headers, content=body)


def test_the_document_is_openapi_3_1() -> None:
    for needs_key in (True, False):
        filled = read_document(Limits(), ['it\'s {a} "b"', "é"], needs_key=needs_key, root_path="/under")
        OpenAPIV31SpecValidator(filled).validate()
        assert ("security" in json.dumps(filled)) == needs_key
        assert filled["components"]["schemas"]["ModelName"]["enum"] == ['it\'s {a} "b"', "é"]
        assert 'Image classifiers: it\'s {a} "b", é. A body may have 16,777,216 bytes' in filled["info"]["description"]
        assert filled["info"]["version"] == cl.__version__
        assert filled["servers"] == [{"url": "/under"}]
    as_it_lies_there = json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))
    OpenAPIV31SpecValidator(as_it_lies_there).validate()


def test_every_route_is_in_it(document: Document) -> None:
    routes = {(route.path, method) for route in ROUTES if route.include_in_schema for method in route.methods or ()}
    assert {(path, method) for path, method in routes if method != "HEAD"} == {
        (path, method) for path, method, _ in operations(document)
    }
    pages = ("/page/", "/learn", "/film")
    others = {route.path for route in ROUTES if not route.include_in_schema and not route.path.startswith(pages)}
    own = {"/openapi.json", "/docs", "/docs.css"}
    assert others == own | {"/", "/models.json", "/examples/{name}", "/look/{name}", "/decode/{name}"}


@pytest.mark.long
def test_every_status_and_content_type_is_answered_so(server: str, document: Document, run: cl.Run, image: Any) -> None:
    client = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))  # the server counts connections
    kinds: set[str] = set()
    for path, method, operation in operations(document):
        for status, given in operation["responses"].items():
            response = resolve(document, given)
            name = "nobody" if status == "404" else run.path.name
            url = server + path.replace("{name}", name).replace("{version}", "1")
            body = resolve(document, operation.get("requestBody", {})).get("content", {None: {}})
            with ExitStack() as held:
                if status == "200":
                    asked = [answered(path, kind, image, document) for kind in body]
                    answers = [client.request(method, url, **one) for one in asked]
                elif status == "408":
                    answers = [too_slow(server, method, path)]
                else:
                    for _ in range(CONNECTIONS if status == "503" else 0):
                        held.enter_context(Wire(int(server.rpartition(":")[2])))
                    answers = [client.request(method, url, **REFUSED[status])]
            for answer in answers:
                where = path, method, status, answer.text[:200]
                said = str(answer.status_code)
                assert said == status if status != "default" else said not in operation["responses"], where
                kind = answer.headers["content-type"].partition(";")[0]
                kinds.add(f"{kind} {said}")
                schema = response["content"][kind]["schema"]
                assert all(
                    header in answer.headers for header, h in response.get("headers", {}).items() if h.get("required")
                ), where
                if kind == "application/json":
                    check(document, schema, answer.json())
                elif kind == "application/octet-stream":
                    head = answer.content[: int(answer.headers[JSON_LENGTH])]
                    check(document, {"$ref": "#/components/schemas/InferenceAnswer"}, json.loads(head))
                    np.testing.assert_allclose(
                        np.frombuffer(answer.content[len(head) :], "<f4"),
                        run.predictions["probabilities"][0],
                        atol=1e-5,
                    )
    client.close()
    assert {"application/octet-stream 200", "application/json 200", "text/plain 200"} <= kinds


def test_every_example_is_one(document: Document) -> None:
    schemas = document["components"]["schemas"]
    examples = [(name, example) for name, schema in schemas.items() for example in schema.get("examples", ())]
    assert {name for name, _ in examples} >= {"Prediction", "Failure", "Error", "ModelMetadata", "InferenceAnswer"}
    for name, example in examples:
        check(document, schemas[name], example)


def test_the_page_shows_all_of_it(server: str, document: Document) -> None:
    page = httpx.get(f"{server}/docs").text
    headings = re.findall("<h2><code>(.*?)</code></h2>", page)
    asked = [f"{method} {path}" for path, method, _ in operations(document)]
    assert sorted(headings) == sorted([*asked, *document["components"]["schemas"]])
    for text in ("Too large: bytes, pixels or images", JSON_LENGTH, "multipart/form-data", "1 to 8 files"):
        assert text in page
