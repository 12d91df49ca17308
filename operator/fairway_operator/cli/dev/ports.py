"""
Ports that ``fairway dev`` wants, asked for before anything is started.

The data plane shares its ports among its workers (``SO_REUSEPORT``), and the
kernel would let a second ``fairway dev`` of the same user share them as well. So
that it is refused, each port is bound here once without sharing. And a port that
was free must stay ours until the data plane has started, so it stays bound: a
socket that does not listen is in nobody's way who asks for its port by number,
and the kernel gives that number to nobody who asks for any.
"""

import errno
import socket


class PortTakenError(Exception):
    """One line for the person who started us."""


def claim(bind: str, wanted: int, flag: str) -> socket.socket:
    """
    Return a socket that keeps the port, or a free one for 0, until it is closed.

    Raises PortTakenError with what to do about it.
    """
    kept = _socket(bind)
    try:
        kept.bind((bind, wanted))
        with _socket(bind) as probe:
            probe.bind((bind, port_of(kept)))
            probe.listen(1)
    except OSError as error:
        kept.close()
        raise PortTakenError(_explain(bind, wanted, flag, error)) from error
    return kept


def port_of(kept: socket.socket) -> int:
    """Return the port that a socket keeps."""
    port: int = kept.getsockname()[1]
    return port


def _socket(bind: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_STREAM)
    # Otherwise connections of the last run that still wait for their end would count.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _explain(bind: str, wanted: int, flag: str, error: OSError) -> str:
    shown = f"[{bind}]:{wanted}" if ":" in bind else f"{bind}:{wanted}"
    reason = (error.strerror or str(error)).lower()
    match error.errno:
        case errno.EADDRINUSE:
            hint = f"stop the other program, or choose a port with {flag}"
        case errno.EACCES:
            hint = f"ports below 1024 need a privilege; choose a higher one with {flag}"
        case errno.EADDRNOTAVAIL:
            hint = "write an address of this machine after --bind"
        case _:
            hint = f"choose another with {flag} or --bind"
    return f"cannot listen on {shown}: {reason}; {hint}"
