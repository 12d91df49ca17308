"""
The first message of a TLS connection, read before OpenSSL sees it.

The certificate is chosen here and not in OpenSSL's callback, for three
reasons: a session ticket is then bound to the certificate that issued it;
a name that is not ASCII, which the standard library reports by printing a
traceback, is only a failed handshake; and a client that shares no application
protocol with us can be told so. What is read decides nothing about safety:
OpenSSL parses the same bytes again and remains the judge of the handshake.
"""

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

HELLO_LIMIT_BYTES = 16 * 1024
"""Longest hello that is read. Those with post-quantum key shares have about 2 KiB."""

_HANDSHAKE_RECORD = 22
_MAJOR_VERSION = 3
_CLIENT_HELLO = 1
_RECORD_LIMIT_BYTES = 16 * 1024
_SERVER_NAME = 0
_APPLICATION_PROTOCOLS = 16

_REMEMBERED_BYTES = 264
"""Longest extension whose meaning is remembered: that of the longest host name."""


class ClientHello(NamedTuple):
    """What a client asks for."""

    server_name: bytes
    """Lower case, without a trailing dot; empty when the client names no host, or an address."""

    application_protocols: tuple[bytes, ...] | None
    """As offered, in order; None when the client did not use ALPN."""


class Unread(Enum):
    """Why there is no hello."""

    INCOMPLETE = "incomplete"
    """More bytes are needed."""
    NOT_TLS = "not-tls"
    """These bytes do not begin a TLS connection."""
    MALFORMED = "malformed"
    """It begins like a hello and contradicts itself, or is longer than the limit."""


def read_hello(data: bytes) -> ClientHello | Unread:
    """Read the ClientHello at the start of ``data`` (RFC 8446 section 4.1.2)."""
    if len(data) >= 9:
        size = data[3] << 8 | data[4]
        low = data[7] << 8 | data[8]
        if (
            data[0] == _HANDSHAKE_RECORD
            and data[1] == _MAJOR_VERSION
            and data[5] == _CLIENT_HELLO
            and data[6] == 0
            and low + 4 <= size <= _RECORD_LIMIT_BYTES
            and low <= HELLO_LIMIT_BYTES
        ):
            # One record holds it whole: all but every hello.
            return _read(data, 9, 9 + low) if len(data) >= 9 + low else Unread.INCOMPLETE
    if data[:1] != b"\x16" or (len(data) > 1 and data[1] != 3):
        return Unread.INCOMPLETE if not data else Unread.NOT_TLS
    body = _joined(data)
    return body if isinstance(body, Unread) else _read(body, 0, len(body))


def _joined(data: bytes) -> bytes | Unread:
    """Join a message that its sender has cut into several records."""
    message = bytearray()
    at = 0
    while len(data) >= at + 5:
        record = data[at + 3] << 8 | data[at + 4]
        # Empty fragments of a handshake message are not allowed (RFC 8446 section 5.1).
        if data[at] != _HANDSHAKE_RECORD or not 0 < record <= _RECORD_LIMIT_BYTES:
            return Unread.MALFORMED
        message += data[at + 5 : at + 5 + record]
        at += 5 + record
        length = _length(message)
        if isinstance(length, int):
            if len(message) >= length + 4:
                return bytes(message[4 : 4 + length])
        elif length is not Unread.INCOMPLETE:
            return length
    return Unread.INCOMPLETE


def _length(message: bytes | bytearray) -> int | Unread:
    """Return the length that the message states in its first four bytes."""
    if message and message[0] != _CLIENT_HELLO:
        return Unread.NOT_TLS
    if len(message) < 4:
        return Unread.INCOMPLETE
    length = message[1] << 16 | message[2] << 8 | message[3]
    return length if length <= HELLO_LIMIT_BYTES else Unread.MALFORMED


def _read(data: bytes, start: int, stop: int) -> ClientHello | Unread:
    """Read the body of the message, from ``start`` to ``stop``."""
    try:
        return _read_extensions(data, start, stop)
    except (IndexError, UnicodeDecodeError):
        return Unread.MALFORMED


def _read_extensions(data: bytes, start: int, stop: int) -> ClientHello | Unread:
    # legacy_version, random, then three vectors that do not matter here.
    at = start + 34
    at += 1 + data[at]
    at += 2 + (data[at] << 8 | data[at + 1])
    at += 1 + data[at]
    if at == stop:
        return ClientHello(b"", None)
    if at + 2 + (data[at] << 8 | data[at + 1]) != stop:
        return Unread.MALFORMED
    at += 2
    name = b""
    protocols: tuple[bytes, ...] | None = None
    while at < stop:
        kind = data[at] << 8 | data[at + 1]
        size = data[at + 2] << 8 | data[at + 3]
        at += 4
        if at + size > stop:
            return Unread.MALFORMED
        if kind == _SERVER_NAME:
            extension = data[at : at + size]
            name = (_known_name if size <= _REMEMBERED_BYTES else _host_name)(extension)
        elif kind == _APPLICATION_PROTOCOLS:
            extension = data[at : at + size]
            protocols = (_known_protocols if size <= _REMEMBERED_BYTES else _protocols)(extension)
        at += size
    return ClientHello(name, protocols)


def _host_name(extension: bytes) -> bytes:
    """Return the one name of a list that may hold one (RFC 6066 section 3)."""
    length = extension[3] << 8 | extension[4]
    name = extension[5:]
    if extension[2] != 0 or length != len(name) or not name or b"\0" in name:
        raise IndexError(length)
    # Only ASCII is a host name in a hello; anything else fails here and not in OpenSSL.
    name.decode("ascii")
    name = name.lower().removesuffix(b".")
    # RFC 6066 allows no addresses here. Clients that send them anyway ask for no host by name.
    return b"" if b":" in name or name.rpartition(b".")[2].isdigit() else name


def _protocols(extension: bytes) -> tuple[bytes, ...]:
    """Return the names of a list of counted names (RFC 7301 section 3.1)."""
    found: list[bytes] = []
    at = 2
    if len(extension) != at + (extension[0] << 8 | extension[1]):
        raise IndexError(at)
    while at < len(extension):
        size = extension[at]
        found.append(extension[at + 1 : at + 1 + size])
        at += 1 + size
    if at != len(extension):
        raise IndexError(at)
    return tuple(found)


# The same few come again and again; what is not well-formed is not remembered.
_known_name = lru_cache(maxsize=4096)(_host_name)
_known_protocols = lru_cache(maxsize=256)(_protocols)
