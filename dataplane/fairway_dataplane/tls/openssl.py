"""
What OpenSSL can do for a context and the standard library has no word for.

Two things: the key of session tickets, without which a ticket is good in one
worker only, and the order of the cipher suites of TLS 1.3. Both are calls to
the very library that :mod:`ssl` uses, with the ``SSL_CTX`` that a context object
keeps in its first field. That is so in every CPython that is named here, and it
is tried out on a context of ours before any other is touched. The one rule:
where it is not so, nothing is called, and all works as the standard library
has it.
"""

import _ssl
import ctypes
import ssl
import sys
from functools import cache
from typing import Final

TICKET_KEY_BYTES: Final = 80
"""A name of 16 bytes, then two keys of 32: one for HMAC-SHA-256, one for AES-256."""

PREFERRED: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                    "TLS_CHACHA20_POLY1305_SHA256")  # fmt: skip
"""
Order of the suites of TLS 1.3; the first is the one that RFC 8446 section 9.1 demands of all.

Go and nginx's guides have it so, too: SHA-384 costs each handshake a tenth more, and no attack
gets nearer by SHA-256.
"""

PRIORITIZE_CHACHA: Final = 1 << 21
"""``SSL_OP_PRIORITIZE_CHACHA``: clients that put it first have no AES in hardware."""

_DEFAULT: Final = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
                   "TLS_AES_128_GCM_SHA256")  # fmt: skip
"""OpenSSL's own order. Any other is somebody's decision, in a configuration file of OpenSSL."""

_SET_TICKET_KEYS: Final = 59  # SSL_CTRL_SET_TLSEXT_TICKET_KEYS


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> bool:
    """Encrypt tickets of ``context`` with ``keys`` from now on; False if that cannot be said."""
    if _library is None:
        return False
    assert len(keys) == TICKET_KEY_BYTES
    done = _library.SSL_CTX_ctrl(_pointer(context), _SET_TICKET_KEYS, TICKET_KEY_BYTES, keys)
    return bool(done == 1)


def prefer_small_suites(context: ssl.SSLContext) -> bool:
    """Put the suites of TLS 1.3 in the order of :data:`PREFERRED`, unless somebody chose one."""
    if _library is None or not _order_is_openssls():
        return False
    names = ":".join(PREFERRED).encode()
    return bool(_library.SSL_CTX_set_ciphersuites(_pointer(context), names) == 1)


@cache
def _order_is_openssls() -> bool:
    """Tell whether nobody chose an order; it is the same for every context of a process."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
    return tuple(each["name"] for each in found if each["protocol"] == "TLSv1.3") == _DEFAULT


def _pointer(context: ssl.SSLContext) -> int:
    """Return the address of the SSL_CTX behind the head that every Python object has."""
    found = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    assert found is not None
    return found


def _open() -> ctypes.CDLL | None:
    """Return the library that the standard library uses, or None if it cannot be told."""
    known = (3, 11) <= sys.version_info[:2] <= (3, 14)
    if sys.implementation.name != "cpython" or not known:
        return None
    try:
        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_get_num_tickets.argtypes = (ctypes.c_void_p,)
        library.SSL_CTX_get_num_tickets.restype = ctypes.c_size_t
        library.SSL_CTX_set_ciphersuites.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
        library.SSL_CTX_ctrl.argtypes = (
            ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p,
        )  # fmt: skip
        library.SSL_CTX_ctrl.restype = ctypes.c_long
    except (AttributeError, OSError):
        return None  # built into the interpreter, or another library in OpenSSL's place
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for number in (5, 3):
        probe.num_tickets = number
        if library.SSL_CTX_get_num_tickets(_pointer(probe)) != number:
            return None
    return library


_library = _open()
