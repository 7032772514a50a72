"""What stands in front of the server: the names and the path that clients use, and the proxies that are believed.

A proxy writes into X-Forwarded-Host, -Proto and -For what its client asked for. Anyone else may write there too, so
these headers count only where the connection comes from a trusted address. They never widen what is answered: the Host
header and the forwarded name must both be names of this server.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from convladder.errors import ConvladderError

NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*(:\d{1,5})?", re.ASCII)
PATH = re.compile(r"(/[\w~-][\w.~-]*)*", re.ASCII)
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Front:
    """How clients reach the server, where that is not directly.

    Attributes:
        names: Public names, lower case. One without a port stands for the name at every port.
        proxies: Addresses whose X-Forwarded headers are believed.
        root_path: A path before all of ours, such as /convladder; the proxy may strip it, or leave it.
    """

    names: frozenset[str] = frozenset()
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    root_path: str = ""

    def trusts(self, address: str) -> bool:
        """Whether an address is a trusted proxy's."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)

    def forwarded(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[str, str]:
        """The host and the scheme that a trusted proxy says its client used; empty where none says so."""
        if not (self.proxies and scope.get("client") and self.trusts(scope["client"][0])):
            return "", ""
        # Of several the last is from the proxy that asks; those before it came with its request.
        host, scheme = (
            headers.get(name, b"").decode("latin-1").rpartition(",")[2].strip().lower()
            for name in (b"x-forwarded-host", b"x-forwarded-proto")
        )
        return host, scheme

    def client(self, scope: Scope) -> str:
        """The address that a request comes from, beyond the trusted proxies."""
        address = str(scope["client"][0]) if scope.get("client") else "unknown"
        said = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        for earlier in reversed([item.strip() for item in said.split(",") if item.strip()]):
            if not self.trusts(address):
                break
            address = earlier
        return address

    def includes(self, host: str) -> bool:
        """Whether a host, in lower case and with its port, is a public name."""
        return host in self.names or without_port(host) in self.names


def parse_front(names: Sequence[str], proxies: Sequence[str], root_path: str) -> Front:
    """Read the command line's words for it.

    Raises:
        ConvladderError: A name that is none, an address that is none, a path that does not begin with "/".
    """
    for name in names:
        if not NAME.fullmatch(name.lower()):
            raise ConvladderError(
                f"--public-name {name!r} is not a host name. Expected one as a browser sends it, without scheme and "
                "path, such as photos.example.org or photos.example.org:8443."
            )
    networks = []
    for proxy in proxies:
        try:
            networks.append(ip_network(proxy))
        except ValueError as error:
            raise ConvladderError(
                f"--trusted-proxy {proxy!r} is not an IP address or network. Expected one such as 127.0.0.1 or "
                "10.0.0.0/8."
            ) from error
    path = root_path.rstrip("/")
    if not PATH.fullmatch(path):
        raise ConvladderError(f"--root-path {root_path!r} is not a path. Expected one such as /convladder.")
    return Front(frozenset(name.lower() for name in names), tuple(networks), path)


def without_port(host: str) -> str:
    """A Host header's name, lower case: "[::1]:8000" is "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def same_origin(origin: str, host: str, scheme: str = "") -> bool:
    """Whether a page of this origin was served under this host, both in lower case, and by this scheme if known."""
    stated, _, address = origin.partition("://")
    port = DEFAULT_PORTS.get(stated, "")
    return address.removesuffix(port) == host.removesuffix(port) != "" and scheme in ("", stated)
