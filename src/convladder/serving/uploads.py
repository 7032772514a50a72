"""Uploads: from a request's body to the pictures in it."""

from collections.abc import Callable
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from convladder.serving.refusals import Refusal


def read_pictures(body: bytes, content_type: str, most: int) -> list[tuple[str, bytes]]:
    """The pictures of a request, as (file name, bytes), not yet decoded.

    Args:
        body: multipart/form-data of one or more files, or one picture as it is.
        content_type: The header.
        most: How many are allowed.

    Raises:
        Refusal: No picture, more than `most`, a damaged multipart body, or another content type.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        pictures = _read_multipart(body, options.get(b"boundary", b""), most)
    elif kind.startswith(b"image/") or kind in (b"", b"application/octet-stream"):
        pictures = [("", body)] if body else []
    else:
        raise Refusal(
            415,
            "wrong_content_type",
            f"Content-Type {content_type[:100]!r} is not understood. Expected multipart/form-data with files, or an "
            "image as the body.",
        )
    if not pictures:
        raise Refusal(400, "no_images", "The request holds no image. Expected one or more.")
    return pictures


def _read_multipart(body: bytes, boundary: bytes, most: int) -> list[tuple[str, bytes]]:
    pictures: list[tuple[str, bytes]] = []
    header = [b"", b""]  # the name and the value of the header that is being read
    disposition = b""
    content: list[bytes] = []
    ended = False

    def begin() -> None:
        nonlocal disposition
        disposition = b""
        content.clear()
        if len(pictures) == most:
            raise Refusal(413, "too_many_images", f"The request holds more than {most} images.")

    def collect(which: int) -> Callable[[bytes, int, int], None]:
        def add(data: bytes, start: int, stop: int) -> None:
            header[which] += data[start:stop]

        return add

    def end_header() -> None:
        nonlocal disposition
        if header[0].lower() == b"content-disposition":
            disposition = header[1]
        header[:] = b"", b""

    def end_part() -> None:
        options = parse_options_header(disposition)[1]
        if b"filename" not in options:
            name = options.get(b"name", b"").decode(errors="replace")
            raise Refusal(
                400, "no_file", f"The form's field {name[:100]!r} is no file. What is asked for stands in the query."
            )
        pictures.append((options[b"filename"].decode(errors="replace"), b"".join(content)))

    def end() -> None:
        nonlocal ended
        ended = True

    callbacks: Any = {
        "on_part_begin": begin,
        "on_header_field": collect(0),
        "on_header_value": collect(1),
        "on_header_end": end_header,
        "on_part_data": lambda data, start, stop: content.append(data[start:stop]),
        "on_part_end": end_part,
        "on_end": end,
    }
    try:
        MultipartParser(boundary, callbacks).write(body)
    except MultipartParseError as error:
        raise Refusal(400, "bad_multipart", f"The multipart body cannot be read ({error}).") from error
    if not ended:
        raise Refusal(400, "bad_multipart", "The multipart body breaks off before its last boundary.")
    return pictures
