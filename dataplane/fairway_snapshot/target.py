"""
Host and path of a request in the one form that is matched and forwarded.

What two readers could understand differently is refused, whatever can only be
read one way is brought into one form (RFC 3986, 6.2.2), and that form is used
for both: a backend never sees another path than the one that chose it. A path
or a host that is in this form already costs one scan.
"""

import ipaddress
import re
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Refusal(StrEnum):
    """Why a host or a path is refused; a closed set, fit for a metric label."""

    HOST = "bad-host"
    NOT_ABSOLUTE = "path-not-absolute"
    BAD_ESCAPE = "path-bad-escape"
    NUL = "path-nul"
    ENCODED_SLASH = "path-encoded-slash"
    CHARACTER = "path-character"
    DOT_PARAMETER = "path-dot-parameter"


class TargetRefused(ValueError):  # noqa: N818 - a verdict on a request, not a fault of ours
    """The request cannot be understood in one way only; answer 400."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


def normalize_path(
    raw: bytes, *, merge_slashes: bool = False, allow_encoded_slash: bool = True
) -> bytes:
    r"""
    Return the path (without query) as it is matched and forwarded.

    Escapes of unreserved characters are decoded, once; the others get upper-case
    digits; what may not stand in a path is escaped; dot segments are removed (RFC 3986,
    5.2.4), after decoding, so ``%2e%2e`` is one. Empty segments stay unless
    ``merge_slashes``. Whether an encoded slash is allowed is known only when
    the route is: pass True and ask :func:`has_encoded_slash` after the match.

    Raises :class:`TargetRefused` for a path that is not absolute, bad escapes,
    ``%00``, raw controls, non-ASCII, ``\``, ``?``, ``#`` and space, and a dot segment
    with parameters (``/..;/``), which some servers read as a dot segment.
    """
    if (
        raw[:1] == b"/"
        and not raw.translate(None, _CLEAN)
        and b"/." not in raw
        and not (merge_slashes and b"//" in raw)
    ):
        return raw
    if raw[:1] != b"/":
        raise TargetRefused(Refusal.NOT_ABSOLUTE)
    path = _UNCLEAN.sub(_settle, raw)
    if not allow_encoded_slash and has_encoded_slash(path):
        raise TargetRefused(Refusal.ENCODED_SLASH)
    if merge_slashes:
        path = _SLASHES.sub(b"/", path)
    if b"/." in path:
        path = _remove_dot_segments(path)
    return path


def has_encoded_slash(path: bytes) -> bool:
    """Say whether a normalised path holds ``%2F`` or ``%5C``."""
    return b"%" in path and (b"%2F" in path or b"%5C" in path)


def without_parameters(path: bytes) -> bytes:
    """Return the path as routes compare it: segments without their ``;parameters``."""
    if b";" not in path:
        return path
    return _PARAMETERS.sub(b"", path)


def normalize_host(raw: bytes) -> bytes:
    """
    Return the host of a ``Host`` field or an authority, as it is matched.

    Lower case, without port and without one trailing dot; an IPv6 address in
    brackets and in its shortest form. Raises :class:`TargetRefused` for an empty or
    invalid host: names have letters, digits, ``-`` and ``_`` only (international
    ones in their A-label form), and an address has no zone.
    """
    if len(raw) <= 253 and _PLAIN_HOST.fullmatch(raw) is not None:
        return raw
    return _normalize_other(raw)


# A host in its one form is not remembered: of ten thousand, each would have to be fetched from
# memory three times over, and that takes longer than to read it.
@lru_cache(maxsize=16_384)
def _normalize_other(raw: bytes) -> bytes:
    parts = _AUTHORITY.fullmatch(raw)
    if parts is None or int(parts["port"] or 0) > 65535:
        raise TargetRefused(Refusal.HOST)
    address: bytes | None = parts["address"]
    if address is not None:
        return _shortest(address)
    name: bytes = parts["name"].lower()
    if len(name) > 253 or any(len(label) > 63 for label in name.split(b".")):
        raise TargetRefused(Refusal.HOST)
    return name


def _shortest(address: bytes) -> bytes:
    try:
        return f"[{ipaddress.IPv6Address(address.decode()).compressed}]".encode()
    except ValueError as error:
        raise TargetRefused(Refusal.HOST) from error


def _settle(found: re.Match[bytes]) -> bytes:
    """Return what stands for one character that is not clean."""
    raw = found[0]
    if len(raw) == 3:
        character = bytes((int(raw[1:], 16),))
        if character in _UNRESERVED:
            return character
        if character == b"\0":
            raise TargetRefused(Refusal.NUL)
        return raw.upper()
    if raw == b"%":
        raise TargetRefused(Refusal.BAD_ESCAPE)
    if raw in _ESCAPED:
        return b"%%%02X" % raw[0]
    raise TargetRefused(Refusal.CHARACTER)


def _remove_dot_segments(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path[1:].split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment.partition(b";")[0] in (b".", b".."):
            if b";" in segment:
                raise TargetRefused(Refusal.DOT_PARAMETER)
        else:
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_CLEAN: Final = _UNRESERVED + b"/!$&'()*+,;=:@"
_ESCAPED: Final = b'"<>^`{}|[]'
_UNCLEAN: Final = re.compile(rb"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~/!$&'()*+,;=:@]", re.DOTALL)
_SLASHES: Final = re.compile(rb"//+")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_PLAIN_HOST: Final = re.compile(rb"[a-z0-9_-]{1,63}+(?:\.[a-z0-9_-]{1,63}+)*+")
_AUTHORITY: Final = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?|\[(?P<address>[0-9A-Fa-f:.]+)\])"
    rb"(?::(?P<port>[0-9]{1,5}))?"
)
