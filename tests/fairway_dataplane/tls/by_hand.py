"""
What OpenSSL's client can do and the standard library has no word for.

Both calls get the ``SSL`` that a TLS object of CPython 3.11 to 3.14 keeps in its second field.
"""

import _ssl
import ctypes
import ssl
from typing import Any

_library = ctypes.CDLL(_ssl.__file__)
for _name in ("SSL_key_update", "SSL_renegotiate", "SSL_do_handshake"):
    getattr(_library, _name).argtypes = (ctypes.c_void_p,)
_library.SSL_key_update.argtypes = (ctypes.c_void_p, ctypes.c_int)


def update_key(tls: ssl.SSLObject, *, answer: bool) -> None:
    """Write a KeyUpdate (RFC 8446 section 4.6.3), and ask for one if ``answer``."""
    assert _library.SSL_key_update(_pointer(tls), int(answer)) == 1
    assert _library.SSL_do_handshake(_pointer(tls)) == 1


def renegotiate(tls: ssl.SSLObject) -> None:
    """Let the next handshake be a second one, of TLS 1.2 (RFC 5746)."""
    assert _library.SSL_renegotiate(_pointer(tls)) == 1


def _pointer(tls: Any) -> int:
    field = id(tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    found = ctypes.c_void_p.from_address(field).value
    assert found is not None
    return found
