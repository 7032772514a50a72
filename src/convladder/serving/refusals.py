"""Refusals: every error that the server answers has one shape.

    {"error": "what was received, what was expected", "code": "body_too_large", "status": 413}

`error` is a string, as the Open Inference Protocol asks.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from convladder.errors import ConvladderError


class Refusal(ConvladderError):  # noqa: N818 (it is an answer)
    """A request that is not answered.

    Args:
        status: 4xx, 501 or 503.
        code: A word for programs; it stays stable.
        message: A line for people.
        headers: Sent along, such as Retry-After.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def content(self) -> dict[str, str | int]:
        """What the answer's body holds."""
        return {"error": str(self), "code": self.code, "status": self.status}

    def response(self) -> Response:
        """The answer."""
        return Response(json.dumps(self.content()), self.status, self.headers, "application/json")


def busy(message: str, seconds: int = 1) -> Refusal:
    """A 503 that says when to come back."""
    return Refusal(503, "busy", message, {"Retry-After": str(seconds)})


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Refusal:
    """The refusal for a status that the framework has chosen: 404, 405 and the like."""
    phrase = HTTPStatus(status).phrase
    expected = {404: "GET /openapi.json lists what is there.", 405: "The Allow header names the methods."}
    message = f"{phrase}. {expected.get(status, '')}".strip()
    return Refusal(status, phrase.lower().replace(" ", "_").replace("-", "_"), message, headers)
