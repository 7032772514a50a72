"""Uploads: from a request's body to the pictures in it."""

import logging

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from convladder.serving.refusals import Refusal

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what is wrong with a form is answered, not logged

Upload = tuple[str, bytes]  # file name and content
LONGEST_TYPE = 1000  # characters of a Content-Type


def read_pictures(body: bytes, content_type: str, most: int) -> list[Upload]:
    """The pictures of a request, as (file name, bytes), not yet decoded.

    Args:
        body: multipart/form-data of one or more files, or one picture as it is.
        content_type: The header.
        most: How many are allowed.

    Raises:
        Refusal: No picture, more than `most`, a damaged multipart body, or another content type.
    """
    if len(content_type) > LONGEST_TYPE:  # thirty thousand parameters would take a tenth of a second to read
        raise _wrong_type(content_type)
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        pictures = _read_form(body, options.get(b"boundary", b""), most)
    elif kind.startswith(b"image/") or kind in (b"", b"application/octet-stream"):
        pictures = [("", body)] if body else []
    else:
        raise _wrong_type(content_type)
    if not pictures:
        raise Refusal(400, "no_images", "The request holds no image. Expected one or more.")
    return pictures


def _read_form(body: bytes, boundary: bytes, most: int) -> list[Upload]:
    if not boundary:
        raise _broken("Content-Type names no boundary")
    # Each boundary costs the parser time, also those of a body that has a million of them.
    if body.lstrip(b"\r\n").count(b"\r\n--" + boundary) > most:
        raise Refusal(413, "too_many_images", f"The request holds more than {most} images.")
    form = _Form()
    try:
        MultipartParser(
            boundary,
            {
                "on_header_begin": form.begin_header,
                "on_header_field": form.take_header_name,
                "on_header_value": form.take_header_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.begin_file,
                "on_part_data": form.take_content,
                "on_part_end": form.end_file,
                "on_end": form.end,
            },
        ).write(body)
    except FormParserError as error:
        raise _broken(str(error)) from error
    if not form.ended:
        raise _broken("it breaks off before its last boundary")
    return form.pictures


class _Form:
    """The files of a form, gathered by what python-multipart calls while it parses."""

    def __init__(self) -> None:
        self.pictures: list[Upload] = []
        self.header = self.value = self.disposition = b""
        self.content = bytearray()  # parts are appended, and a body can have millions of them
        self.name = ""
        self.ended = False

    def begin_header(self) -> None:
        self.header = self.value = b""

    def take_header_name(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def take_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value

    def begin_file(self) -> None:
        if not self.disposition:
            raise _broken("a part has no Content-Disposition")
        options = parse_options_header(self.disposition)[1]
        if b"filename" not in options:
            field = options.get(b"name", b"").decode(errors="replace")[:100]
            raise Refusal(
                400, "no_file", f"The form's field {field!r} is no file. What is asked for stands in the query."
            )
        self.name = options[b"filename"].decode(errors="replace")
        self.disposition = b""
        self.content = bytearray()

    def take_content(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]

    def end_file(self) -> None:
        self.pictures.append((self.name, bytes(self.content)))

    def end(self) -> None:
        self.ended = True


def _wrong_type(content_type: str) -> Refusal:
    return Refusal(
        415,
        "wrong_content_type",
        f"Content-Type {content_type[:100]!r} is not understood. Expected multipart/form-data with files, or an "
        "image as the body.",
    )


def _broken(reason: str) -> Refusal:
    return Refusal(400, "bad_multipart", f"The multipart body cannot be read: {reason}.")
