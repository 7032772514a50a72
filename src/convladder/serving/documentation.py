"""What the server says of itself: openapi.json, filled in, and a page of it at /docs that needs no script."""

import json
from collections.abc import Iterable, Iterator
from functools import reduce
from html import escape
from importlib.resources import files
from operator import getitem
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from convladder import __version__
from convladder.serving.limits import Limits

FOLDER = files("convladder.serving")


class Documentation:
    """The answers about one server.

    Args:
        limits: Of the server.
        models: Their names; the first answers where a request names none.
        needs_key: Whether requests need the API key.
        root_path: The path that clients reach the server under.
    """

    def __init__(self, limits: Limits, models: list[str], *, needs_key: bool, root_path: str = "") -> None:
        document = read_document(limits, models, needs_key=needs_key, root_path=root_path)
        self.document = json.dumps(document)
        self.page = render(document)
        self.style = (FOLDER / "documentation.css").read_text(encoding="utf-8")


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(request.app.state.documentation.document, media_type="application/json")


async def page(request: Request) -> Response:
    """The same for people."""
    return Response(request.app.state.documentation.page, media_type="text/html")


async def style(request: Request) -> Response:
    """The style sheet of that page."""
    return Response(request.app.state.documentation.style, media_type="text/css")


def read_document(limits: Limits, models: list[str], *, needs_key: bool, root_path: str = "") -> dict[str, Any]:
    """The OpenAPI document of a server; arguments as of Documentation."""
    models = models or ["none"]
    values = {
        "version": __version__,
        "limits": limits,
        "models": ", ".join(models),
        "first": models[0],
        "root": root_path or "/",
    }

    def fill(part: dict[str, Any]) -> dict[str, Any]:
        return {key: value.format(**values) if isinstance(value, str) else value for key, value in part.items()}

    text = (FOLDER / "openapi.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text, object_hook=fill)
    document["components"]["schemas"]["ModelName"]["enum"] = models
    if not needs_key:
        del document["security"], document["components"]["securitySchemes"]
        for path in document["paths"].values():
            for operation in _operations(path).values():
                operation.pop("security", None)
    return document


def render(document: dict[str, Any]) -> str:
    """The page at /docs."""
    sections = [
        _section(
            f"{method.upper()} {path}",
            f"{operation['summary']}. {operation.get('description', '')}",
            _rows(document, [*item.get("parameters", ()), *operation.get("parameters", ())], operation),
        )
        for path, item in document["paths"].items()
        for method, operation in _operations(item).items()
    ]
    for name, schema in document["components"]["schemas"].items():
        properties = schema.get("properties", {})
        rows = ((key, _name(value), value.get("description", "")) for key, value in properties.items())
        sections.append(_section(name, schema.get("description", ""), rows))
    info = document["info"]
    template = Template((FOLDER / "documentation.html").read_text(encoding="utf-8"))
    return template.substitute(
        version=escape(info["version"]), about=escape(info["description"]), parts="".join(sections)
    )


def _operations(path: dict[str, Any]) -> dict[str, Any]:
    return {method: operation for method, operation in path.items() if method != "parameters"}


def _rows(document: dict[str, Any], parameters: list[Any], operation: Any) -> Iterator[tuple[str, str, str]]:
    """What an operation takes and answers, as rows of a table."""
    for given in parameters:
        parameter = _resolve(document, given)
        yield parameter["name"], parameter["in"], parameter.get("description") or _name(parameter["schema"])
    body = _resolve(document, operation.get("requestBody", {}))
    for kind, content in body.get("content", {}).items():
        yield kind, "body", content["schema"].get("description") or _name(content["schema"])
    for status, given in operation["responses"].items():
        yield status, "answer", _resolve(document, given)["description"]


def _section(title: str, text: str, rows: Iterable[tuple[str, str, str]]) -> str:
    table = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<section><h2><code>{escape(title)}</code></h2><p>{escape(text)}</p><table>{table}</table></section>"


def _resolve(document: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """What a reference such as #/components/responses/Busy names; anything else as it is."""
    return reduce(getitem, item["$ref"].split("/")[1:], document) if "$ref" in item else item


def _name(schema: dict[str, Any]) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_name, schema["anyOf"]))
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_name(schema['items'])}" if "items" in schema else kind
