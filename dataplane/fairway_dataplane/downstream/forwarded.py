"""
What a backend is told about the client: X-Forwarded-*, Forwarded, Via, X-Real-IP.

What a client claims about itself is dropped, unless it is a proxy of ours; then
it is appended to, and the client is the right-most hop that is not one of ours
(rows 69 and 70, RFC 7239). A claim that does not parse is the end of the chain
that is believed.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from fairway_dataplane.exchange import Block, Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What a backend is told about the client."""

    trusted: tuple[IPv4Network | IPv6Network, ...] = field(default=())
    """Proxies whose X-Forwarded-* and Forwarded are believed and appended to."""

    introducers: tuple[IPv4Network | IPv6Network, ...] = field(default=())
    """Load balancers whose connections begin with a PROXY protocol header."""

    forwarded: bool = False
    """Send Forwarded (RFC 7239) too."""

    via: bool = True
    """Send Via, as RFC 9110 section 7.6.3 wants from a gateway."""

    def trusts(self, address: str) -> bool:
        """Tell whether an address is a proxy of ours."""
        if not self.trusted:
            return False
        parsed = _parse(address)
        return parsed is not None and self._holds(parsed)

    def is_introduced_by(self, address: str) -> bool:
        """Tell whether a connection from this address begins with a PROXY protocol header."""
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self.introducers)

    def _holds(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.trusted)

    def block(self, *, address: str, secure: bool, authority: bytes) -> Block:
        """Return the lines for a client that is not trusted: all but the request's id."""
        peer = address.encode()
        proto = b"https" if secure else b"http"
        return self._lines(
            hops=peer, client=peer, proto=proto, host=authority, port=_port(authority, proto),
            element=_element(peer, proto, authority) if self.forwarded else b"",
        )  # fmt: skip

    def believe(self, exchange: Exchange, *, address: str) -> Block:
        """
        Return the lines for a request from a proxy of ours.

        Sets ``client_address``, ``secure`` and ``request_id`` to what it claims.
        """
        claims = _Claims(exchange)
        peer = address.encode()
        exchange.client_address = self._client([*claims.hops, address])
        if claims.proto:
            exchange.secure = claims.proto == b"https"
        proto = claims.proto or (b"https" if exchange.secure else b"http")
        host = claims.host or exchange.authority
        if claims.request_id:
            exchange.request_id = claims.request_id
        elements = [*claims.elements, _element(peer, proto, host)]
        return self._lines(
            hops=b", ".join([hop.encode() for hop in claims.hops] + [peer]),
            client=exchange.client_address.encode(),
            proto=proto,
            host=host,
            port=claims.port or _port(host, proto),
            element=b", ".join(elements),
        )

    def _client(self, hops: list[str]) -> str:
        for hop in reversed(hops):
            parsed = _parse(hop)
            if parsed is None or not self._holds(parsed):
                return hop
        return hops[0]

    def _lines(  # noqa: PLR0913 - one for each line
        self, *, hops: bytes, client: bytes, proto: bytes, host: bytes, port: bytes, element: bytes
    ) -> Block:
        lines = (
            b"\r\nx-forwarded-for: " + hops
            + b"\r\nx-forwarded-proto: " + proto
            + b"\r\nx-forwarded-port: " + port
            + b"\r\nx-real-ip: " + client
        )  # fmt: skip
        if host:
            lines += b"\r\nx-forwarded-host: " + host
        if self.forwarded:
            lines += b"\r\nforwarded: " + element
        if self.via:
            lines += b"\r\nvia: 1.1 fairway"
        return lines


class _Claims:
    """What a proxy of ours says of the client before it, as far as it parses."""

    __slots__ = ("elements", "hops", "host", "port", "proto", "request_id")

    def __init__(self, exchange: Exchange) -> None:
        self.hops: list[str] = []
        self.elements: list[bytes] = []
        self.proto = self.host = self.port = self.request_id = b""
        for name, value in exchange.claims:
            match name:
                case b"x-forwarded-for":
                    self.hops += [_without_port(hop) for hop in value.split(b",")]
                case b"forwarded" if _is_balanced(value):
                    self.elements.append(value)
                case b"forwarded":
                    # A quote that does not end would swallow what is appended to it.
                    self.elements.clear()
                case b"x-forwarded-proto" if value.lower() in (b"http", b"https"):
                    self.proto = value.lower()
                case b"x-forwarded-host" if _is_host(value):
                    self.host = value
                case b"x-forwarded-port" if value.isdigit() and len(value) < 6:
                    self.port = value
                case b"x-request-id" if _is_id(value):
                    self.request_id = value
        if not self.hops and self.elements:
            self.hops = [
                _forwarded_for(element)
                for value in self.elements
                for element in _each_element(value)
            ]
        self.hops = _believed(self.hops)


def _believed(hops: list[str]) -> list[str]:
    """Return the end of the chain in which every hop is an address."""
    for at in range(len(hops), 0, -1):
        if _parse(hops[at - 1]) is None:
            return hops[at:]
    return hops


def _without_port(text: bytes) -> str:
    """Return a hop without the port that some proxies add, and without brackets."""
    text = text.strip(b" \t")
    found = _node(text)
    return (text if found is None else found[1] or found[2]).decode("latin-1")


def _forwarded_for(element: bytes) -> str:
    """Return whom an element of Forwarded is for; empty if it does not say so."""
    at, who = 0, ""
    while at < len(element):
        pair = _pair(element, at)
        if pair is None:
            return ""
        at = pair.end()
        if pair[1] is not None and pair[1].lower() == b"for":
            if who:
                return ""
            who = _without_port(pair[2].strip(b'"'))
    return who


def _element(peer: bytes, proto: bytes, host: bytes) -> bytes:
    """Return an element of Forwarded; an IPv6 address stands in brackets and quotes."""
    who = b'"[%b]"' % peer if b":" in peer else peer
    element = b"for=" + who + b";proto=" + proto
    return element + b';host="%b"' % host if host else element


def _port(authority: bytes, proto: bytes) -> bytes:
    if _COLON in authority:
        found = _authority_port(authority)
        if found is not None:
            return found[1]
    return b"443" if proto == b"https" else b"80"


@lru_cache(maxsize=1024)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


_COLON = ord(":")
"""An `in` that is asked for bytes raises and drops an exception first."""

_authority_port = re.compile(rb".*:([0-9]{1,5})").fullmatch
_is_host = re.compile(rb"[A-Za-z0-9.\-_:\[\]]{1,255}").fullmatch
_is_id = re.compile(rb"[A-Za-z0-9._\-+/=:]{1,128}").fullmatch
_node = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?").fullmatch
_QUOTED = rb'"(?:[^"\\]|\\.)*+"'
_is_balanced = re.compile(rb'(?:[^"]|' + _QUOTED + rb")*+").fullmatch
_each_element = re.compile(rb'(?:[^",]|' + _QUOTED + rb")++").findall
# Addresses with colons have to be quoted, RFC 7239 section 4, and not everybody does.
_pair = re.compile(
    rb"[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(" + _QUOTED + rb'|[^";, \t]+))?[ \t]*(?:;|$)'
).match
