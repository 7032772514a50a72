"""The Open Inference Protocol, version 2, over HTTP: what clients of other inference servers speak.

Facts from the protocol's specification (kserve/open-inference-protocol) and, for binary tensors, from the extension
that Triton's documentation describes (protocol/extension_binary_data.md): a body is JSON, then the tensors' bytes in
order, little-endian, and the header Inference-Header-Content-Length says where the JSON ends.
"""

import asyncio
import json
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from convladder import __version__
from convladder.serving.refusals import Refusal
from convladder.serving.service import Model, Pixels, Service

DATATYPES: dict[str, str] = {"UINT8": "u1", "FP32": "<f4"}  # pixels of 0–255 in either
INPUT = "image"
VERSION = "1"
JSON_LENGTH = "inference-header-content-length"
LARGE_BODY = 65_536  # bytes; more is read in a thread


async def server_metadata(_request: Request) -> Response:
    """Which server this is."""
    return _json({"name": "convladder", "version": __version__, "extensions": ["binary_tensor_data"]})


async def live(_request: Request) -> Response:
    """That it answers at all."""
    return _json({"live": True})


async def ready(_request: Request) -> Response:
    """That models are loaded; before that, nothing is listened to."""
    return _json({"ready": True})


async def model_metadata(request: Request) -> Response:
    """What a model takes and gives."""
    model = _find(request)
    shape = [-1, *model.classifier.input_shape]
    return _json(
        {
            "name": model.name,
            "versions": [VERSION],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": shape}],
            "outputs": [
                {"name": name, "datatype": "FP32", "shape": [-1, *shape]}
                for name, shape in model.classifier.outputs.items()
            ],
        }
    )


async def model_ready(request: Request) -> Response:
    """That a model is loaded."""
    return _json({"name": _find(request).name, "ready": True})


async def infer(request: Request) -> Response:
    """Pixels in, probabilities out."""
    model = _find(request)
    service: Service = request.app.state.service
    body = await request.body()
    length = request.headers.get(JSON_LENGTH)
    if len(body) > LARGE_BODY:
        loop = asyncio.get_running_loop()
        asked, images = await loop.run_in_executor(service.threads, _read, model, body, length, service.limits.images)
    else:
        asked, images = _read(model, body, length, service.limits.images)
    answers = (await service.predict(model, images))._asdict()
    chosen = [output["name"] for output in asked.get("outputs") or ()] or list(model.classifier.outputs)
    tensors = {name: np.asarray(answers[name], "<f4") for name in chosen}
    said: dict[str, Any] = {"model_name": model.name, "model_version": VERSION}
    if "id" in asked:
        said["id"] = asked["id"]
    described = [{"name": name, "datatype": "FP32", "shape": list(values.shape)} for name, values in tensors.items()]
    said["outputs"] = described
    content = b""
    for item, values in zip(described, tensors.values(), strict=True):
        if _wants_binary(asked, str(item["name"])):
            item["parameters"] = {"binary_data_size": values.nbytes}
            content += values.tobytes()
        else:
            item["data"] = values.ravel().tolist()
    if not content:
        return _json(said)
    head = json.dumps(said).encode()
    return Response(head + content, 200, {JSON_LENGTH: str(len(head))}, "application/octet-stream")


def _find(request: Request) -> Model:
    service: Service = request.app.state.service
    version = request.path_params.get("version", VERSION)
    if version != VERSION:
        raise Refusal(404, "no_such_model", f"Version {version[:100]!r} is not here. Expected {VERSION}.")
    return service.find_model(request.path_params["name"])


def _read(model: Model, body: bytes, json_length: str | None, most: int) -> tuple[dict[str, Any], Pixels]:
    """The request's JSON, and the images of its one input, of a shape that the model takes."""
    length = len(body)
    if json_length is not None:
        short = json_length.isascii() and json_length.isdigit() and len(json_length) <= 12
        if not (short and int(json_length) <= len(body)):
            raise _wrong(f"{JSON_LENGTH} {json_length[:20]!r} is no length within a body of {len(body)} bytes")
        length = int(json_length)
    try:
        asked = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise _wrong(f"the body is no JSON ({error})") from error
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise _wrong("inputs does not hold one tensor")
    if not isinstance(asked.get("id", ""), str | int):
        raise _wrong(f"the id is {reprlib.repr(asked['id'])}, no string")
    given = inputs[0]
    if given.get("name") != INPUT:
        raise _wrong(f"the input is named {_shown(given.get('name'))}, not {INPUT!r}")
    if not isinstance(asked.get("id", ""), str):
        raise _wrong(f"id is {_shown(asked['id'])}, not a text")
    outputs, given_out = asked.get("outputs") or [], list(model.classifier.outputs)
    if not (isinstance(outputs, list) and all(isinstance(o, dict) and o.get("name") in given_out for o in outputs)):
        raise _wrong(f"outputs names another than {' and '.join(given_out)}")
    datatype, shape = given.get("datatype"), given.get("shape")
    if not (isinstance(datatype, str) and datatype in DATATYPES):
        raise _wrong(f"datatype {_shown(datatype)} is not one of {', '.join(DATATYPES)}")
    expected = [-1, *model.classifier.input_shape]
    sides = shape if isinstance(shape, list) and len(shape) == 4 and all(type(side) is int for side in shape) else []
    if not sides or sides[1:] != expected[1:]:
        raise _wrong(f"shape {str(sides)[:100] if sides else _shown(shape)} is not {expected}")
    if not 1 <= sides[0] <= most:
        raise Refusal(413, "too_many_images", f"The request holds {_shown(sides[0])} images. Expected 1 to {most}.")
    images = _read_data(given, body[length:], np.dtype(DATATYPES[datatype]))
    if images.size != np.prod(sides):
        raise _wrong(f"{images.size} values came for the shape {sides}")
    return asked, images.reshape(sides)


def _read_data(given: Mapping[str, Any], rest: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    size = _parameters(given).get("binary_data_size")
    if size is not None:
        if type(size) is not int or size != len(rest) or size % dtype.itemsize:
            raise _wrong(f"binary_data_size {_shown(size)} does not fit the {len(rest)} bytes after the JSON")
        values = np.frombuffer(rest, dtype)
    else:
        try:
            with np.errstate(over="ignore"):  # an infinity is refused below
                values = np.asarray(given.get("data"), dtype=np.float32).ravel()
        except (ValueError, TypeError, OverflowError) as error:
            raise _wrong("data holds something other than numbers in equal rows") from error
    if dtype.kind == "f" or size is None:
        if not (np.isfinite(values).all() and (values >= 0).all() and (values <= 255).all()):
            raise _wrong("a value is out of range: pixels are 0 to 255")
        if dtype.kind == "u" and (values % 1).any():
            raise _wrong("a value of UINT8 is no whole number")
    return values.astype(dtype, copy=False)


def _wants_binary(asked: Mapping[str, Any], name: str) -> bool:
    """As the extension says: an output's binary_data, else the request's binary_data_output."""
    for output in asked.get("outputs") or ():
        wanted = _parameters(output).get("binary_data")
        if output["name"] == name and wanted is not None:
            return bool(wanted)
    return bool(_parameters(asked).get("binary_data_output"))


def _parameters(item: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = item.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _shown(value: Any) -> str:
    """A value as a message shows it: only texts and numbers, because others may be nested too deeply to be shown."""
    return repr(value)[:100] if type(value) in (str, int, float) else f"a {type(value).__name__}"


def _wrong(reason: str) -> Refusal:
    return Refusal(400, "bad_inference_request", f"Not understood: {reason}.")


def _json(content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/json")
