"""
Headers that users may set or remove, and those they may not.

What frames a message, names its host or belongs to one connection is the
proxy's own: set by a user it would let two parties read one message in two
ways (RFC 9110, 7.6.1; RFC 9112, 6).
"""

import re
from typing import Final

from fairway_snapshot.filters import Header

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}")

RESERVED: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Names that no user sets or removes; the host has a filter of its own."""


def header_name(name: str) -> str:
    """Return the name in lower case; raises ValueError for one that may not be touched."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is not a header name; write it as x-name")
    lower = name.lower()
    if lower in RESERVED:
        raise ValueError(f"the header {lower} belongs to the proxy; leave it out")
    return lower


def header(name: str, value: str) -> Header:
    """Return the header; raises ValueError where name or value may not be set."""
    lower = header_name(name)
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"the value of {lower} is not printable ASCII; write it in one line of ASCII"
        )
    return Header(name=lower, value=value.strip(" \t"))
