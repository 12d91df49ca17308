"""
Text from the configuration in the form that may stand in a message.

Everything here runs when a table is built. The compiler has checked the same
values before; they are checked again because what is wrong in here would be
written into every request, and then it refuses the snapshot.
"""

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote

from fairway_dataplane.exchange import Block
from fairway_snapshot.filters import Header
from fairway_snapshot.target import TargetRefused, normalize_host, normalize_path


class FilterRefused(ValueError):  # noqa: N818 - it is about the configuration, not a bug
    """A filter cannot be built; the message names the value and the rule."""


def path_of(text: str) -> bytes:
    """Return a path as requests have it: normalised, escaped where it must be."""
    try:
        return normalize_path(quote(text, safe=_STANDS_IN_A_PATH).encode())
    except TargetRefused as refusal:
        raise FilterRefused(f"{text!r} is not a path: {refusal}") from None


def host_of(text: str) -> bytes:
    """Return a host, with its port if it has one, as it stands in a Host field."""
    try:
        normalize_host(text.encode())
    except TargetRefused:
        raise FilterRefused(f"{text!r} is not a host") from None
    return text.encode()


def name_of(text: str) -> bytes:
    """Return the name of a field that a filter may change, in lower case."""
    name = text.lower().encode()
    if _is_token(name) is None:
        raise FilterRefused(f"{text!r} is not the name of a header")
    if name in _NOT_FOR_FILTERS:
        raise FilterRefused(f"{text!r} belongs to the connection; a filter may not change it")
    return name


def value_of(text: str) -> bytes:
    """Return the value of a field: no control characters, so no line end (RFC 9110, 5.5)."""
    value = text.strip(" \t").encode()
    if _is_value(value) is None:
        raise FilterRefused(f"{text!r} is not a header's value: it has control characters")
    return value


def block_of(headers: Sequence[Header]) -> Block:
    """Return header lines as a block."""
    return b"".join(
        b"\r\n" + name_of(header.name) + b": " + value_of(header.value) for header in headers
    )


def prefix_swap(prefix: str, replacement: str) -> Callable[[bytes], bytes]:
    """
    Return a function that replaces a prefix of whole segments in a normalised path.

    A path without the prefix comes back as it is. Parameters (``;v=1``) do not
    count when segments are compared, as they do not when a route is matched;
    those of the replaced segments go with them.
    """
    old = path_of(prefix).removesuffix(b"/")
    new = path_of(replacement)
    head = new.removesuffix(b"/")
    cut = len(old)
    segments = [] if not old else old[1:].split(b"/")

    def swap(path: bytes) -> bytes:
        if path.startswith(old):
            rest = path[cut:]
            if rest[:1] == b"/":
                return head + rest
            if not rest:
                return new
        return swap_parameters(path) if b";" in path else path

    def swap_parameters(path: bytes) -> bytes:
        found = path[1:].split(b"/")
        if [name.partition(b";")[0] for name in found[: len(segments)]] != segments:
            return path
        rest = found[len(segments) :]
        return head + b"/" + b"/".join(rest) if rest else new

    return swap


def redirect_status(status: int) -> int:
    """Return the status of a redirect that has a location."""
    if status not in (301, 302, 303, 307, 308):
        raise FilterRefused(f"{status} is not a redirect; write 301, 302, 303, 307 or 308")
    return status


def scheme_of(text: str) -> bytes:
    """Return a scheme; only those of HTTP make sense in a redirect."""
    if text not in ("http", "https"):
        raise FilterRefused(f"{text!r} is not http or https")
    return text.encode()


def port_of(port: int) -> bytes:
    """Return a port in digits."""
    if not 0 < port < 65536:
        raise FilterRefused(f"{port} is not a port; write 1 to 65535")
    return b"%d" % port


def location(scheme: bytes, host: bytes, port: bytes, target: bytes) -> Block:
    """
    Return the line that sends a client to ``target`` (path and query).

    A well-known port of the scheme, and an empty one, are left out. Without a
    host only the target can be named; it never begins with two slashes there,
    because those would name a host.
    """
    if not host:
        return b"\r\nlocation: /" + target.lstrip(b"/")
    if port and port != _WELL_KNOWN[scheme]:
        host += b":" + port
    return b"\r\nlocation: " + scheme + b"://" + host + target


_WELL_KNOWN = {b"http": b"80", b"https": b"443"}
_STANDS_IN_A_PATH = "/!$&'()*+,;=:@%~"
_NOT_FOR_FILTERS = frozenset(
    b"connection content-length expect host http2-settings keep-alive proxy-connection te trailer"
    b" transfer-encoding upgrade".split()
)
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
