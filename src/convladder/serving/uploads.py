"""Uploads: from a request's body to the pictures in it."""

import re

from python_multipart.multipart import parse_options_header

from convladder.serving.refusals import Refusal

Upload = tuple[str, bytes]  # file name and content
PLAIN_DISPOSITION = re.compile(rb'\r\nContent-Disposition: form-data; name="[^"\\]*"; filename="([^"\\/]*)"\r\n')


def read_pictures(body: bytes, content_type: str, most: int) -> list[Upload]:
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


def _read_multipart(body: bytes, boundary: bytes, most: int) -> list[Upload]:
    """Split a body that is in memory whole (RFC 2046, section 5.1.1), each part into its header and its content."""
    if not boundary:
        raise _broken("Content-Type names no boundary")
    delimiter = b"\r\n--" + boundary
    before, *parts = (b"\r\n" + body).split(delimiter, most + 2)
    if len(parts) > most + 1:
        raise Refusal(413, "too_many_images", f"The request holds more than {most} images.")
    if not parts or before.strip():
        raise _broken("it does not begin with its boundary")
    if not parts.pop().startswith(b"--"):
        raise _broken("it breaks off before its last boundary")
    uploads = []
    for part in parts:
        head, found, content = part.partition(b"\r\n\r\n")
        if not found or not head.startswith(b"\r\n"):
            raise _broken("a part has no header")
        uploads.append((_read_filename(head), content))
    return uploads


def _read_filename(head: bytes) -> str:
    plain = PLAIN_DISPOSITION.match(head)
    if plain:
        return plain[1].decode(errors="replace")
    options: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            options = parse_options_header(value)[1]
    if b"filename" not in options:
        field = options.get(b"name", b"").decode(errors="replace")[:100]
        raise Refusal(400, "no_file", f"The form's field {field!r} is no file. What is asked for stands in the query.")
    return options[b"filename"].decode(errors="replace")


def _broken(reason: str) -> Refusal:
    return Refusal(400, "bad_multipart", f"The multipart body cannot be read: {reason}.")
