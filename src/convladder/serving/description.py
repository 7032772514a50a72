"""What the server says of itself: OpenAPI at /openapi.json, and at /docs a page of it that needs no script."""

from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from convladder import __version__
from convladder.serving.limits import Limits

FOLDER = files("convladder.serving")
NUMBER, TEXT, YES, WHOLE = {"type": "number"}, {"type": "string"}, {"type": "boolean"}, {"type": "integer"}


def describe(limits: Limits, models: list[str], *, needs_key: bool, root_path: str = "") -> dict[str, Any]:
    """The OpenAPI document of a server with these limits and models, under this path."""
    name = {"name": "name", "in": "path", "required": True, "schema": TEXT | {"enum": models}}
    paths: dict[str, Any] = {
        "/predict": {"post": _predict(limits, models)},
        "/v2": {"get": _operation("Which server this is", "ServerMetadata")},
        "/v2/health/live": {"get": _operation("That it answers at all", "Live")},
        "/v2/health/ready": {"get": _operation("That its models are loaded", "Ready")},
        "/v2/models/{name}": {"get": _operation("What a model takes and gives", "ModelMetadata", 404, own=[name])},
        "/v2/models/{name}/ready": {"get": _operation("That a model is loaded", "ModelReady", 404, own=[name])},
        "/v2/models/{name}/infer": {"post": _infer(name)},
        "/metrics": {"get": _operation("Counts and latencies, for Prometheus")},
    }
    paths["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": TEXT}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "convladder",
            "version": __version__,
            "description": (
                f"Image classifiers: {', '.join(models)}. A body may have {limits.body:,} bytes, a request "
                f"{limits.images} images of {limits.pixels:,} pixels together; {limits.requests} requests are at work "
                "at once, one more is answered 503 and told by Retry-After when to come back."
            ),
        },
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }
    if needs_key:
        document["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "Any name, and the key as password."},
        }
        document["security"] = [{"key": []}, {"bearer": []}, {"basic": []}]
        for path in ("/v2/health/live", "/v2/health/ready"):
            paths[path]["get"]["security"] = []
    return document


def render(document: dict[str, Any]) -> str:
    """The page at /docs."""
    parts = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>")
            rows = [
                (item["name"], item["in"], item.get("description") or _name(item["schema"]))
                for item in operation.get("parameters", ())
            ]
            rows += [
                (kind, "body", content.get("schema", {}).get("description") or _name(content["schema"]))
                for kind, content in operation.get("requestBody", {}).get("content", {}).items()
            ]
            rows += [(status, "answer", response["description"]) for status, response in operation["responses"].items()]
            cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table></section>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"<section><h2><code>{name}</code></h2><p>{escape(schema.get('description', ''))}</p><table>")
        for key, value in schema["properties"].items():
            text = value.get("description", "")
            parts.append(f"<tr><td>{escape(key)}</td><td>{escape(_name(value))}</td><td>{escape(text)}</td></tr>")
        parts.append("</table></section>")
    page = Template((FOLDER / "documentation.html").read_text(encoding="utf-8"))
    info = document["info"]
    return page.substitute(version=escape(info["version"]), about=escape(info["description"]), parts="".join(parts))


def style() -> str:
    """The style sheet of that page."""
    return (FOLDER / "documentation.css").read_text(encoding="utf-8")


def _operation(
    summary: str, answer: str | None = None, *refusals: int, own: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": _ref(answer)}}} if answer else {}
    responses: dict[str, Any] = {"200": {"description": answer or "Text"} | content}
    codes: tuple[int | str, ...] = (*refusals, "default")
    for status in codes:
        said = REFUSED.get(status, "Any other refusal; all have this shape")
        responses[str(status)] = {"description": said, "content": {"application/json": {"schema": _ref("Error")}}}
    return {"summary": summary, "parameters": own or [], "responses": responses}


def _predict(limits: Limits, models: list[str]) -> dict[str, Any]:
    query = [
        {"name": "model", "description": f"Which model answers; by default {models[0]}.", "schema": TEXT},
        {"name": "top", "description": "How many classes an answer names; 5 by default.", "schema": WHOLE},
        {"name": "probabilities", "description": "true: those of all classes, in their order.", "schema": YES},
    ]
    operation = _operation("Classify one image or many", "Predictions", 400, 404, 408, 413, 415, 422, 503)
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "description": f"1 to {limits.images} files; the fields' names do not matter.",
        "properties": {"files": {"type": "array", "items": binary}},
    }
    return operation | {
        "description": (
            "Of several images a bad one has its error in its place, and the rest is answered; where none can be "
            "read, the request is refused."
        ),
        "parameters": [item | {"in": "query"} for item in query],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "image/*": {"schema": binary | {"description": "One JPEG, PNG, BMP, GIF, WebP or TIFF file."}},
                "application/octet-stream": {"schema": binary | {"description": "The same."}},
            },
        },
    }


def _infer(name: dict[str, Any]) -> dict[str, Any]:
    operation = _operation("Pixels in, probabilities out", "InferenceAnswer", 400, 404, 413, 503, own=[name])
    both = "JSON of Inference-Header-Content-Length bytes, then the tensor's bytes."
    binary = {"schema": TEXT | {"format": "binary", "description": both}}
    operation["responses"]["200"]["content"]["application/octet-stream"] = binary
    return operation | {
        "description": "The Open Inference Protocol, with its extension for binary tensors.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("InferenceRequest")},
                "application/octet-stream": binary,
            },
        },
    }


def _ref(name: str | None) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _name(schema: dict[str, Any]) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_name(schema['items'])}" if "items" in schema else kind


def _object(description: str = "", **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties}


def _list(items: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


REFUSED: dict[int | str, str] = {
    400: "Not understood",
    404: "No such model",
    408: "Too slow",
    413: "Too large: bytes, pixels or images",
    415: "No picture, or another content type",
    422: "A damaged picture, or a query out of range",
    503: "Busy; Retry-After says for how long",
}
SCHEMAS: dict[str, Any] = {
    "Predictions": _object(model=TEXT, predictions=_list(_ref("Prediction"))),
    "Prediction": _object(
        "What convladder predict --json prints; or source, error, code and status.",
        source=TEXT | {"description": "The file's name"},
        label=TEXT,
        probability=NUMBER | {"description": "0 to 1"},
        top=_list({"type": "array"}, "[label, probability], the most probable first"),
        abstained=YES | {"description": "The probability is below the model's threshold"},
        probabilities=_list(NUMBER, "Of all classes, if asked for"),
    ),
    "Error": _object(
        "The one shape of every refusal.",
        error=TEXT | {"description": "For people: what was received, what was expected"},
        code=TEXT | {"description": "For programs; it stays stable"},
        status=WHOLE,
    ),
    "ServerMetadata": _object(name=TEXT, version=TEXT, extensions=_list(TEXT)),
    "Live": _object(live=YES),
    "Ready": _object(ready=YES),
    "ModelReady": _object(name=TEXT, ready=YES),
    "ModelMetadata": _object(
        name=TEXT, versions=_list(TEXT), platform=TEXT, inputs=_list(_ref("Tensor")), outputs=_list(_ref("Tensor"))
    ),
    "InferenceRequest": _object(
        id=TEXT, inputs=_list(_ref("Tensor")), outputs=_list(_ref("Tensor")), parameters={"type": "object"}
    ),
    "InferenceAnswer": _object(model_name=TEXT, model_version=TEXT, id=TEXT, outputs=_list(_ref("Tensor"))),
    "Tensor": _object(
        "An input is named image, UINT8 or FP32, pixels of 0 to 255; an output probabilities, FP32.",
        name=TEXT,
        datatype=TEXT,
        shape=_list(WHOLE),
        data={"type": "array", "description": "Row by row, nested or not; or in parameters:"},
        parameters={"type": "object", "description": "binary_data_size of an input, binary_data of an output"},
    ),
}
