"""What comes over a connection, byte by byte: offers of other protocols, refused requests and what follows them."""

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import convladder as cl
from browsing import skip_without
from served import Wire, png, say, started

HOST = b"Host: localhost\r\n"
INNER = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"  # a request where a body should be


@pytest.fixture(scope="module")
def port(run: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    model = tmp_path_factory.mktemp("models") / "fast.onnx"
    shutil.copy(run.path / "model.onnx", model)
    with started(str(model), "--limits", "body=100000,seconds=20") as (_, _, port):
        yield port


@pytest.fixture(scope="module")
def picture(small: cl.Dataset) -> bytes:
    return png(small.test.images[0])


def stated(body: bytes) -> bytes:
    """A body of stated length, after the end of the headers."""
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"


OFFERS = {
    "Java": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": b"connection: UPGRADE\r\nupgrade: TLS/1.0\r\n",
    "several": b"Upgrade: h2c\r\nConnection: close-not, upgrade\r\nUpgrade: websocket, foo/2\r\n",
    "nothing": b"Connection: upgrade\r\nUpgrade:\r\n",
}
ASKED = [
    ("POST", "/predict"),
    ("POST", "/look/fast"),
    ("POST", "/v2/models/fast/infer"),
    ("GET", "/v2"),
    ("GET", "/models.json"),
    ("HEAD", "/v2"),
    ("PUT", "/predict"),
    ("OPTIONS", "/v2"),
]


@pytest.mark.long
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_upgrade_offer_is_ignored_and_the_body_kept(port: int, picture: bytes, offer: bytes) -> None:
    """On one connection: every answer is that to the same request without an offer, and there is one a request."""
    with Wire(port) as wire, Wire(port) as plain:
        for (method, path), frame, body in itertools.product(ASKED, (stated, chunked), (picture, INNER)):
            head = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + b"Content-Type: image/png\r\n"
            framed = frame(body)
            end_of_head = framed.index(b"\r\n\r\n") + 4
            plain.send(head + framed)
            status, headers, expected = plain.answer(method)
            for segments in (
                [head + offer + framed],
                [head + offer + framed[:end_of_head], framed[end_of_head:]],
                [head + offer[:20], offer[20:] + framed[:-3], framed[-3:]],
            ):
                wire.send(*filter(None, segments))
                answered = wire.answer(method)
                assert (answered[0], answered[2]) == (status, expected), (method, path, segments)
                assert answered[1]["content-length"] == headers["content-length"]
        wire.send(b"GET /v2 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert wire.rest().count(b"HTTP/1.1 ") == 1


def test_upgrade_offers_of_pipelined_requests_are_ignored(port: int, picture: bytes) -> None:
    request = b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n" + OFFERS["Java"] + stated(picture)
    with Wire(port) as wire:
        wire.send(request * 5 + b"GET /v2 HTTP/1.1\r\n" + HOST + b"\r\n")
        assert [wire.answer()[0] for _ in range(6)] == [200] * 6


JAVA = """
import java.net.URI;
import java.net.http.*;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();  // it offers h2c
        for (int count = 0; count < 3; count++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0] + "/predict"))
                .header("Content-Type", "image/png").POST(BodyPublishers.ofFile(Path.of(arguments[1]))).build();
            System.out.println(client.send(request, BodyHandlers.ofString()).body());
        }
    }
}
"""


@pytest.mark.long
def test_a_java_client_that_offers_h2c_is_answered(port: int, picture: bytes, tmp_path: Path) -> None:
    java = skip_without("java")
    (tmp_path / "Client.java").write_text(JAVA)
    (tmp_path / "digit.png").write_bytes(picture)
    command = [java, "Client.java", f"http://127.0.0.1:{port}", "digit.png"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
    with Wire(port) as wire:
        wire.send(b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n" + stated(picture))
        expected = wire.answer()[2].decode()
    assert '"label": "7"' in expected
    assert printed.splitlines() == [expected] * 3


def test_curl_that_offers_h2c_is_answered(port: int, picture: bytes, tmp_path: Path) -> None:
    curl = skip_without("curl")
    (tmp_path / "digit.png").write_bytes(picture)
    url = f"http://127.0.0.1:{port}/predict"
    command = [curl, "--silent", "--show-error", "--fail", "--http2", "--form", "file=@digit.png", url, url]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
    assert printed.count('"label": "7"') == 2


POST = b"POST /predict HTTP/1.1\r\nContent-Type: image/png\r\n"
REFUSED = {
    "bad length": (POST + HOST + b"Content-Length: +42\r\n\r\n", 400),
    "two lengths": (POST + HOST + b"Content-Length: 0\r\n" + stated(INNER), 400),
    "length and chunks": (POST + HOST + b"Content-Length: 5\r\n" + chunked(b""), 400),
    "bad chunk": (POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "bad chunk after a good one": (POST + HOST + chunked(b"abc")[:-5] + b"-1\r\n", 400),
    "another coding": (POST + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "another coding in chunks": (POST + HOST + b"Transfer-Encoding: gzip, " + chunked(INNER)[19:], 501),
    "folded header": (POST + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "bare line feeds": (b"GET /v2 HTTP/1.1\nHost: localhost\n\n", 400),
    "blank before the colon": (b"GET /v2 HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
    "another version": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a tunnel": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "a tunnel and an offer": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + OFFERS["Java"] + b"\r\n", 405),
    "too large": (POST + HOST + stated(b"x" * 100_001), 413),
    "far too large": (POST + HOST + b"Content-Length: 99999999999\r\n\r\n", 413),
    "too large in chunks": (POST + HOST + chunked(b"x" * 100_001), 413),
    "too large, waiting": (POST + HOST + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n", 413),
    "bad host": (POST + b"Host: evil.example\r\n" + stated(INNER), 421),
    "bad host, no body": (b"GET /v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "bad host, waiting": (POST + b"Host: evil.example\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 421),
    "bad host and an offer": (POST + b"Host: evil.example\r\n" + OFFERS["Java"] + stated(INNER), 421),
    "bad origin": (POST + HOST + b"Origin: http://evil.example\r\n" + stated(INNER), 403),
    "compressed": (POST + HOST + b"Content-Encoding: gzip\r\n" + stated(INNER), 415),
    "compressed in chunks": (POST + HOST + b"Content-Encoding: gzip\r\n" + chunked(INNER), 415),
    "large headers": (b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
def test_what_follows_a_refused_request_is_never_answered(port: int, request_: bytes, status: int) -> None:
    for segments in ([request_ + INNER], [request_, INNER], [request_[:60], request_[60:], INNER + INNER]):
        answer = say(port, *segments)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert answer.count(b"HTTP/1.1 ") == 1, answer
        assert b"\nconnection: close\r" in answer.lower()


@pytest.mark.long
def test_what_follows_a_request_without_a_key_is_never_answered(run: cl.Run) -> None:
    with started(str(run.path), CONVLADDER_API_KEY="secret") as (_, _, port):
        for request in (POST + HOST + stated(INNER), POST + HOST + b"Expect: 100-continue\r\n" + stated(INNER)):
            answer = say(port, request, INNER)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert answer.count(b"HTTP/1.1 ") == 1


def test_a_large_body_that_is_refused_does_not_lose_the_answer(port: int) -> None:
    """It is read and dropped: a connection closed while its client sends would be reset."""
    with Wire(port) as wire:
        wire.send(POST + b"Host: evil.example\r\nContent-Length: 390000\r\n\r\n" + b"x" * 200_000)
        assert wire.answer()[0] == 421  # before the body is there
        wire.send(b"x" * 190_000)
        assert wire.rest() == b""


def test_requests_before_a_bad_one_keep_their_answers(port: int, picture: bytes) -> None:
    """An answer to the bad one in the place of theirs would be taken for theirs."""
    good = POST + HOST + stated(picture)
    for bad in (b"no HTTP\r\n\r\n", POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"):
        for segments in ([good * 3 + bad], [good + good[:90], good[90:] + bad]):
            answer = say(port, *segments)
            assert answer.count(b"HTTP/1.1 200 ") == b"".join(segments).count(
                b"image/png\r\nHost: localhost\r\nContent-Le"
            )
            assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ") + 1
            assert b"HTTP/1.1 400 " in answer[answer.rindex(b"HTTP/1.1 ") :]


def test_trailers_are_not_headers(port: int, picture: bytes) -> None:
    body = chunked(picture).removesuffix(b"\r\n")
    with Wire(port) as wire:
        wire.send(POST + HOST + body + b"Host: evil.example\r\nOrigin: null\r\nContent-Encoding: gzip\r\n\r\n")
        assert wire.answer()[0] == 200
        wire.send(POST.replace(b"localhost", b"evil.example") + b"Host: evil\r\n" + body + HOST + b"\r\n")
        assert wire.answer()[0] == 421
    assert say(port, POST + HOST + body + b"X: ", b"x" * 40_000, b"x" * 40_000).startswith(b"HTTP/1.1 431 ")
