"""Behind a proxy: a real nginx with the usual set-ups, and who is believed when no proxy is there."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

import convladder as cl
from browsing import Visit, open_browser, skip_without
from convladder.serving.application import create_application
from convladder.serving.proxies import Front, parse_front
from served import Client, free_port, nginx, png, say, started

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "serve.md"
NAME = "photos.example.org"
FORWARDED = (
    "proxy_set_header Host $host; proxy_set_header X-Forwarded-Host $host; "
    "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
)
HEADERS = {
    "none": "",
    "host": "proxy_set_header Host $host;",
    "http_host": "proxy_set_header Host $http_host;",
    "forwarded": FORWARDED,
    "websocket": f"proxy_http_version 1.1; {FORWARDED} proxy_set_header Upgrade $http_upgrade; "
    "proxy_set_header Connection upgrade;",
    "port": "proxy_set_header Host $host:$server_port; proxy_set_header X-Forwarded-Proto $scheme;",
}


@pytest.fixture(scope="module")
def secure(run: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx with the documentation's block, in front of the documentation's command."""
    folder = tmp_path_factory.mktemp("secure")
    text = DOCUMENTATION.read_text()
    (block,) = re.findall(r"^```text\n(server \{.*?)^```", text, re.MULTILINE | re.DOTALL)
    (options,) = re.findall(r"^convladder serve runs/fast-1 (--public-name .*)$", text, re.MULTILINE)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [skip_without("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    port = free_port()
    with started(str(run.path), *options.split()) as (_, _, behind):
        for stated, ours in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/ssl/photos.example.org.pem", str(certificate)),
            ("/etc/ssl/photos.example.org.key", str(key)),
            ("127.0.0.1:8000", f"127.0.0.1:{behind}"),
        ):
            assert block.count(stated) == 1
            block = block.replace(stated, ours)
        with nginx(folder, block, port):
            yield port


@pytest.fixture(scope="module")
def plain(run: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx with a path for each of the usual set-ups."""
    port = free_port()
    options = ["--public-name", NAME, "--trusted-proxy", "127.0.0.0/8", "--root-path", "/left"]
    with started(str(run.path), *options) as (_, _, behind):
        locations = "".join(
            f"location /{name}/ {{ proxy_pass http://127.0.0.1:{behind}/; {headers} }}"
            for name, headers in HEADERS.items()
        )
        locations += f"location /left {{ proxy_pass http://127.0.0.1:{behind}; {FORWARDED} }}"
        server = f"server {{ listen 127.0.0.1:{port}; server_name {NAME}; client_max_body_size 16m; {locations} }}"
        with nginx(tmp_path_factory.mktemp("plain"), server, port):
            yield port


@pytest.fixture(scope="module")
def picture(small: cl.Dataset) -> bytes:
    return png(small.test.images[0])


def check_page(client: httpx.Client, origin: str, other: str, picture: bytes) -> None:
    """All that the page at "" asks for, as a browser without Sec-Fetch-Site asks for it."""
    html = client.get("")
    assert html.status_code == 200
    assets = re.findall(r'(?:src|href)="(page/[^"]+)"', html.text)
    scripts = {f"page/{name}" for asset in assets for name in re.findall(r'"\./([\w-]+\.js)"', client.get(asset).text)}
    assert len(scripts) > 2
    (model,) = client.get("models.json").raise_for_status().json()["models"]
    for path in (
        "",
        *assets,
        *scripts,
        "models.json",
        model["examples"]["file"],
        "docs",
        "openapi.json",
        "v2",
        "metrics",
    ):
        got, head = client.get(path), client.head(path)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b""), path
        if path != "metrics":
            assert head.headers["content-length"] == got.headers["content-length"]
    for origins in (origin, other):
        allowed = origins == origin
        headers = {"origin": origins, "content-type": "image/png"}
        answers = [
            client.post("predict", content=picture, headers=headers),
            client.post(f"decode/{model['name']}", content=picture, headers=headers),
            client.post(f"look/{model['name']}", content=bytes(784), headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [200 if allowed else 403] * 3, (origins, answers[0].text)
    assert client.post("predict", content=picture).json()["predictions"][0]["label"] == "7"


@pytest.mark.parametrize("set_up", [*HEADERS, "left"])
def test_the_page_is_served_through_nginx(plain: int, picture: bytes, set_up: str) -> None:
    base = f"http://127.0.0.1:{plain}/{set_up}/"
    with httpx.Client(base_url=base, headers={"host": f"{NAME}:{plain}"}) as client:
        check_page(client, f"http://{NAME}:{plain}", "http://evil.example", picture)


def test_the_documented_nginx_block_serves_the_page(secure: int, picture: bytes) -> None:
    base = f"https://127.0.0.1:{secure}/convladder/"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with httpx.Client(base_url=base, verify=context, headers={"host": f"{NAME}:{secure}"}) as client:
        check_page(client, f"https://{NAME}:{secure}", f"http://{NAME}:{secure}", picture)  # the other is no TLS
        assert client.get("openapi.json").json()["servers"] == [{"url": "/convladder"}]
        assert (
            client.post("predict", content=bytes(2_000_000)).json()["code"] == "no_picture"
        )  # beyond nginx's own limit


@pytest.mark.long
def test_a_browser_uses_the_page_through_the_documented_nginx_block(secure: int) -> None:
    rules = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    with open_browser(rules, "--ignore-certificate-errors") as browser:
        visit = Visit(browser, f"https://{NAME}:{secure}/convladder/")
        visit.draw_seven()
        assert visit.label() == "7"
        assert visit.complaints == []
        assert all(url.startswith(f"https://{NAME}:{secure}/convladder/") for url in visit.requested)
        visit.close()


def test_a_path_without_its_slash_leads_to_the_page(plain: int) -> None:
    answer = httpx.get(f"http://127.0.0.1:{plain}/left", headers={"host": NAME})
    assert (answer.status_code, answer.headers["location"]) == (307, "/left/")


def test_a_health_probe_by_http_1_0_needs_no_host(run: cl.Run) -> None:
    with started(str(run.path), CONVLADDER_API_KEY="secret") as (_, _, port):
        for method in (b"GET", b"HEAD"):
            for path in (b"/v2/health/live", b"/v2/health/ready"):
                probe = method + b" " + path
                assert say(port, probe + b" HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
                address = b" HTTP/1.1\r\nHost: 10.0.0.5:8000\r\nConnection: close\r\n\r\n"
                assert say(port, probe + address).startswith(b"HTTP/1.1 200 ")
        key = b"X-API-Key: secret\r\n"
        assert say(port, b"GET /v2 HTTP/1.0\r\n" + key + b"\r\n").startswith(b"HTTP/1.1 200 ")
        for hosts in (b"", b"Host: localhost\r\nHost: localhost\r\n", b"Host: evil.example\r\nHost: localhost\r\n"):
            assert say(port, b"GET /v2 HTTP/1.1\r\n" + key + hosts + b"\r\n").startswith(b"HTTP/1.1 400 ")


def ask(app: Any, address: str, path: str = "/v2", **headers: str) -> tuple[int, str]:
    """The status, and the code of a refusal, for a request that comes from an address."""

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    answer = asyncio.run(get())
    return answer.status_code, answer.json().get("code", "")


PROXY, STRANGER = "10.1.2.3", "10.9.9.9"
HERE = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("address", "headers", "code"),
    [
        (PROXY, {"x_forwarded_host": NAME, "origin": f"http://{NAME}"}, ""),
        (PROXY, {"x_forwarded_host": f"evil.example, {NAME}", "origin": f"https://{NAME}"}, ""),
        (PROXY, {"x_forwarded_host": "evil.example", "origin": "http://evil.example"}, "wrong_host"),
        (PROXY, {"x_forwarded_host": "evil.example"}, "wrong_host"),
        (PROXY, {"host": "evil.example", "x_forwarded_host": NAME}, "wrong_host"),
        (PROXY, {"x_forwarded_proto": "https", "host": NAME, "origin": f"https://{NAME}"}, ""),
        (PROXY, {"x_forwarded_proto": "https", "host": NAME, "origin": f"http://{NAME}"}, "wrong_origin"),
        (PROXY, {"x_forwarded_proto": "http, https", "host": NAME, "origin": f"http://{NAME}"}, "wrong_origin"),
        (PROXY, {"x_forwarded_host": "localhost:8080", "origin": "http://localhost:8080"}, ""),
        (STRANGER, {"x_forwarded_host": "localhost:8080", "origin": "http://localhost:8080"}, "wrong_origin"),
        (STRANGER, {"x_forwarded_host": "evil.example", "origin": HERE}, ""),  # not looked at
        (STRANGER, {"x_forwarded_proto": "https", "origin": HERE}, ""),
        (STRANGER, {"host": f"{NAME}.", "origin": HERE}, "wrong_host"),
        (STRANGER, {"host": NAME.upper(), "origin": f"http://{NAME}:8080"}, ""),
        (STRANGER, {"host": "api.example.org:8443", "origin": "https://api.example.org:8443"}, ""),
        (STRANGER, {"host": "api.example.org", "origin": "https://api.example.org"}, "wrong_host"),
        (STRANGER, {"origin": "https://api.example.org:8443"}, ""),
        (STRANGER, {"origin": "https://api.example.org"}, "wrong_origin"),
        (STRANGER, {"origin": f"http://evil.{NAME}"}, "wrong_origin"),
        (STRANGER, {"origin": "http://unstated.example", "sec_fetch_site": "same-origin"}, ""),
        (STRANGER, {"origin": "http://unstated.example", "sec_fetch_site": "same-site"}, "wrong_origin"),
        (STRANGER, {"host": "localhost:80", "origin": "http://localhost"}, ""),
        (STRANGER, {"host": "localhost:443", "origin": "https://localhost"}, ""),
        (STRANGER, {"host": "localhost:443", "origin": "http://localhost"}, "wrong_origin"),
        (STRANGER, {"origin": "null"}, "wrong_origin"),
        (STRANGER, {"origin": "http://"}, "wrong_origin"),
    ],
)
def test_forwarded_headers_are_believed_from_a_trusted_address_alone(
    run: cl.Run, address: str, headers: dict[str, str], code: str
) -> None:
    front = parse_front([NAME, "API.example.org:8443"], ["127.0.0.1", "10.1.0.0/16", "::1"], "")
    app = create_application({"first": run.classifier()}, front=front)
    status = {"": 200, "wrong_host": 421, "wrong_origin": 403}[code]
    assert ask(app, address, **headers) == (status, code)


def test_the_log_names_the_client_beyond_trusted_proxies(run: cl.Run, caplog: pytest.LogCaptureFixture) -> None:
    app = create_application({"first": run.classifier()}, front=parse_front([], ["10.1.0.0/16"], ""))

    async def failing(_request: Request) -> Response:
        raise RuntimeError("on purpose")

    app.add_route("/failing", failing)
    for address, client in ((PROXY, "203.0.113.9"), (STRANGER, STRANGER)):
        caplog.clear()
        ask(app, address, "/failing", x_forwarded_for="198.51.100.7, 203.0.113.9, 10.1.0.1")
        assert f"GET '/failing' of {client} failed." in caplog.text


def test_a_root_path_may_be_stripped_or_left(run: cl.Run) -> None:
    app = create_application({"first": run.classifier()}, front=parse_front([], [], "/a/b/"))
    for path, status in (("/a/b/v2", 200), ("/v2", 200), ("/a/v2", 404), ("/a/bv2", 404), ("/a/b/a/b/v2", 404)):
        assert Client(app).get(path).status_code == status


def test_head_is_answered_wherever_get_is(run: cl.Run) -> None:
    app = create_application({"first": run.classifier()})
    client = Client(app)
    paths = [str(getattr(route, "path", "")) for route in app.routes]
    assert {"/", "/models.json", "/examples/{name}", "/page/main.js", "/v2", "/metrics", "/docs"} <= set(paths)
    for path in paths:
        asked = path.replace("{name}", "first").replace("{version}", "1")
        assert client.request("HEAD", asked).status_code == client.get(asked).status_code, path


def test_headers_that_change_nothing_are_accepted(run: cl.Run, picture: bytes) -> None:
    """What proxies and clients add: only what would change the body's meaning may be refused."""
    client = Client(create_application({"first": run.classifier()}, api_key="secret"))
    expected = client.post("/predict", content=picture, headers={"x-api-key": "secret"})
    assert expected.status_code == 200
    for headers in (
        {"content-encoding": "identity"},
        {"content-encoding": "Identity"},
        {"content-encoding": "identity, identity"},
        {"content-encoding": ""},
        {"content-type": "IMAGE/PNG; charset=binary"},
        {"accept-encoding": "gzip", "te": "trailers", "range": "bytes=0-1", "if-none-match": "*"},
        {"authorization": "Basic YW55b25lOmZvciB0aGUgcHJveHk="},  # nginx's auth_basic
        {"authorization": "Bearer for-the-proxy"},
        {"authorization": "Basic ?"},
        {"x-forwarded-host": "evil.example", "x-forwarded-for": "nobody", "forwarded": "host=evil", "via": "1.0 x"},
        {"upgrade-insecure-requests": "1", "cookie": "a=b", "referer": "http://evil.example"},
    ):
        answer = client.post("/predict", content=picture, headers={"x-api-key": "secret"} | headers)
        assert (answer.status_code, answer.content) == (200, expected.content), headers
    for encoding in ("gzip", "identity, gzip", "br", "x"):
        headers = {"x-api-key": "secret", "content-encoding": encoding}
        assert client.post("/predict", content=picture, headers=headers).status_code == 415


def test_bad_names_addresses_and_paths_are_refused() -> None:
    assert parse_front([], [], "") == parse_front([], [], "/") == Front()
    for name in (
        "",
        "https://photos.example.org",
        "photos.example.org/x",
        "*",
        "a b",
        "photos.example.org:",
        "fotös.org",
    ):
        with pytest.raises(cl.ConvladderError, match=r"--public-name .* Expected"):
            parse_front([name], [], "")
    for address in ("", "localhost", "10.0.0.1/8", "*", "10.0.0.300"):
        with pytest.raises(cl.ConvladderError, match=r"--trusted-proxy .* Expected"):
            parse_front([], [address], "")
    for path in ("convladder", "//x", "/a/../b", "/a b", "/a?b", "https://photos.example.org/x"):
        with pytest.raises(cl.ConvladderError, match=r"--root-path .* Expected"):
            parse_front([], [], path)
