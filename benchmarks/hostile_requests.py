"""Requests that mean harm, for the load and the tests: what each is, and what a server must answer to it.

REFUSED must get a 4xx (or 501, which says of the request that its coding is unknown), TAKEN are odd and sound, and the
clients of ABANDONED leave before they are answered.
"""

import io
import json
import struct
import zlib

import numpy as np
from http_load import Request, upload
from PIL import Image

HOST = b"Host: 127.0.0.1\r\n"
LARGE = 10_000_000  # bytes, within the limit of a body
DEEP = 100_000


def send(body: bytes, content_type: bytes = b"image/png", path: bytes = b"/predict", head: bytes = b"") -> bytes:
    """A POST with a body of stated length."""
    return _post(path, b"Content-Type: %b\r\nContent-Length: %d\r\n%b" % (content_type, len(body), head), body)


def _post(path: bytes, head: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\n%b%b\r\n%b" % (path, HOST, head, body)


def _encoded(kind: str, side: int = 64) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def _cut(kind: str) -> bytes:
    content = _encoded(kind)
    return content[: len(content) // 2]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(rows or bytes((width + 1) * min(height, 10)), 9)
    chunks = [_chunk(b"IHDR", header), *more, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _bombs() -> dict[str, bytes]:
    """Few bytes that claim many pixels, in each format."""
    jpeg = bytearray(_encoded("JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5  # height and width in the frame's header
    jpeg[start : start + 4] = struct.pack(">HH", 65_500, 65_500)
    bmp = bytearray(_encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    entries = [(256, 4, 60_000), (257, 4, 60_000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 9)]
    tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags
    webp = b"VP8X" + struct.pack("<II", 10, 0) + 2 * b"\xff\xff\xff"
    return {
        "png": _png(60_000, 60_000),
        "gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0" + bytes(6)
        + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02D\x01\0;",
        "jpeg": bytes(jpeg),
        "bmp": bytes(bmp),
        "webp": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
        "tiff": tiff + struct.pack("<I", 0),
        "tiff without end": tiff + struct.pack("<I", 8),  # its first page is its next one
    }  # fmt: skip


def _form(header: bytes, content: bytes = b"x", boundary: bytes = b"b") -> bytes:
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (boundary, header, content, boundary)


def _named(name: bytes, content: bytes) -> bytes:
    form = _form(b'Content-Disposition: form-data; name="f"; filename="%b"' % name, content)
    return send(form, b"multipart/form-data; boundary=b")


def _deep(text: str) -> bytes:
    return (text[0] * DEEP + text[1] * DEEP).encode()


def _tensors(model: str) -> dict[str, bytes]:
    """Requests of the inference protocol."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": [0] * 784}

    def ask(content: bytes | dict[str, object], head: bytes = b"") -> bytes:
        body = content if isinstance(content, bytes) else json.dumps({"inputs": [tensor | content]}).encode()
        return send(body, b"application/json", b"/v2/models/%b/infer" % model.encode(), head)

    nested = b'{"id": %b, "inputs": [%b]}' % (b"[" * 900 + b"]" * 900, json.dumps(tensor).encode())
    return {
        "deep lists": ask(_deep("[]")),
        "deep objects": ask(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        "deep data": ask({"data": json.loads("[" * 90 + "1" + "]" * 90)}),
        "deep id": ask(nested),
        "number of a million digits": ask(b'{"inputs": [%b]}' % (b"9" * 1_000_000)),
        "no number": ask({"data": [float("nan")] * 784}),
        "beyond all numbers": ask(b'{"inputs": [{"name": "image", "data": [1e999]}]}'),
        "ragged": ask({"data": [[0], [0, 1]]}),
        "strings": ask({"data": ["0"] * 783 + ["x"]}),
        "objects": ask({"data": {"0": 1}}),
        "negative shape": ask({"shape": [-1, 28, 28, 1]}),
        "vast shape": ask({"shape": [10**18, 28, 28, 1]}),
        "shape of truths": ask({"shape": [True, 28, 28, 1]}),
        "shape of fractions": ask({"shape": [1, 28.0, 28, 1]}),
        "list as a shape's side": ask({"shape": [1, [28], 28, 1]}),
        "list as a datatype": ask({"datatype": []}),
        "object as a name": ask({"name": {}}),
        "list as an output's name": ask(b'{"outputs": [{"name": []}], "inputs": [%b]}' % json.dumps(tensor).encode()),
        "no UTF-8": ask(b'{"inputs": "\xff\xfe"}'),
        "half a surrogate": ask(b'{"inputs": [{"name": "\\ud800"}]}'),
        "no JSON": ask(b"GIF89a"),
        "length below zero": ask({}, b"Inference-Header-Content-Length: -1\r\n"),
        "length beyond the body": ask({}, b"Inference-Header-Content-Length: 99999999999999999999\r\n"),
        "another size": ask({"parameters": {"binary_data_size": 10**12}}),
    }


def slow(blanks: int) -> bytes:
    """A form that takes its parser a second: blanks after a boundary, which are looked at one by one."""
    content = _form(b'Content-Disposition: form-data; name="f"; filename="x"', b"\r\n--b" + b"\t" * blanks)
    return send(content, b"multipart/form-data; boundary=b")


def refused(model: str, picture: bytes) -> dict[str, Request]:
    """What must get a 4xx."""
    form = b"multipart/form-data; boundary=b"
    good = send(picture)
    lengths = b"Content-Type: image/png\r\nContent-Length: %d\r\n" % len(picture)
    chunked = b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n"
    requests = {f"{name} of many pixels": send(content) for name, content in _bombs().items()}
    requests |= {f"half a {kind}": send(_cut(kind)) for kind in ("PNG", "GIF", "JPEG", "BMP", "WEBP", "TIFF")}
    requests |= _tensors(model)
    requests |= {
        "nothing": send(b""),
        "no picture": send(b"\0" * 1000),
        "a page": send(b"<!doctype html><script>alert(1)</script>"),
        "JSON as a picture": send(b"{}", b"application/json"),
        "another type": send(picture, b"text/html"),
        "type with many parameters": send(picture, b"a/b" + b";" * 30_000),
        "open quotation mark": send(picture, b'multipart/form-data; boundary="' + b";" * 30_000),
        "form without boundary": send(picture, b"multipart/form-data"),
        "other boundary": send(_form(b"A: b"), b"multipart/form-data; boundary=c"),
        "long boundary": send(_form(b"A: b", boundary=b"b" * 9000), b"multipart/form-data; boundary=" + b"b" * 9000),
        "a million parts": send(b"--b\r\n" * 1_000_000, form),
        "a million part ends": send(b"\r\n--b--" * 1_000_000, form),
        "many headers in a part": send(_form(b"A: b\r\n" * 100_000), form),
        "long header in a part": send(_form(b"A: " + b"b" * LARGE), form),
        "form without end": send(_form(b'Content-Disposition: form-data; name="f"; filename="x"', picture)[:-9], form),
        "blanks after a boundary": slow(LARGE // 10),
        "a field": send(_form(b'Content-Disposition: form-data; name="top"', b"1"), form),
        "long name": _named(b"x" * 1_000_000, picture),
        "two lengths": _post(b"/predict", lengths + b"Content-Length: 5\r\n", picture),
        "length and chunks": _post(b"/predict", lengths + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        "two hosts": _post(b"/predict", HOST + lengths, picture),
        "too long a body": _post(b"/predict", b"Content-Type: image/png\r\nContent-Length: 99999999999\r\n", b""),
        "compressed": send(zlib.compress(bytes(LARGE)), head=b"Content-Encoding: deflate\r\n"),
        "chunk of no size": _post(b"/predict", chunked, b"xyz\r\n\r\n"),
        "chunk beyond all sizes": _post(b"/predict", chunked, b"fffffffffffffffff\r\n"),
        "another coding": _post(b"/predict", b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        "large head": good.replace(HOST, HOST + b"X: " + b"x" * 70_000 + b"\r\n", 1),
        "control character in a header": good.replace(HOST, HOST + b"X: \x00\x1b[2J\r\n", 1),
        "long path": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        "strange path": b"GET /%00%ff%c0%ae%2e%2e/ HTTP/1.1\r\n" + HOST + b"\r\n",
        "top of none": send(picture, path=b"/predict?top=%C2%B2"),
        "top of many digits": send(picture, path=b"/predict?top=-" + b"9" * 5000),
        "no such model": send(picture, path=b"/predict?model=%1B%5B2J" + b"x" * 5000),
        "another page's request": send(picture, head=b"Origin: https://evil.example\r\n"),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
    }
    return {kind: Request(content, kind) for kind, content in requests.items()}


def taken(picture: bytes) -> dict[str, Request]:
    """What is odd, and gets its answer."""
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(LARGE), 9))
    requests = {
        "four million pixels": send(_png(2000, 2000, rows=bytes(2001 * 2000))),
        "text that unpacks to much": send(_png(28, 28, text, rows=bytes(29 * 28))),
        "page of a browser": _named(b"<script>alert(1)</script>.png", picture),
        "control characters in a name": _named(b"\x1b[2J\x07\xe2\x80\xae.png", picture),
        "path as a name": _named(b"../../../../etc/passwd", picture),
        "long epilogue": send(
            _form(b'Content-Disposition: form-data; name="f"; filename="x"', picture) + bytes(LARGE),
            b"multipart/form-data; boundary=b",
        ),
        "many chunks": _post(
            b"/predict",
            b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n",
            b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in picture) + b"0\r\n\r\n",
        ),
        "two types": send(picture, head=b"Content-Type: text/html\r\n"),
        "many parameters": send(picture, path=b"/predict?" + b"a=b&" * 10_000),
    }
    return {kind: Request(content, kind) for kind, content in requests.items()}


def abandoned(picture: bytes) -> dict[str, Request]:
    """What breaks off, because its client leaves."""
    whole = upload([picture])
    chunked = _post(b"/predict", b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n", b"ffff\r\n" + picture)
    requests = {
        "half a head": whole[:60],
        "half a body": whole[: -len(picture) // 2],
        "half a large body": send(bytes(LARGE))[: LARGE // 2],
        "half a chunk": chunked,
        "consent, and nothing": _post(b"/predict", b"Expect: 100-continue\r\nContent-Length: 9\r\n", b""),
        "no ear for the answer": whole,
        "ten requests at once": whole * 10,
    }
    return {kind: Request(content, kind, leaves=True) for kind, content in requests.items()}
