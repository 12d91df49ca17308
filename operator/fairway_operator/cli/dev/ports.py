"""
Ports that ``fairway dev`` wants, asked for before anything is started.

The data plane shares its ports among its workers (``SO_REUSEPORT``), and the
kernel would let a second ``fairway dev`` of the same user share them as well. So
that it is refused, each port is bound here once without sharing.
"""

import errno
import socket


class PortTakenError(Exception):
    """One line for the person who started us."""


def claim(bind: str, wanted: int, flag: str) -> int:
    """
    Return the port, or a free one for 0.

    Raises PortTakenError with what to do about it.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Otherwise connections of the last run that still wait for their end would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, wanted))
            probe.listen(1)
        except OSError as error:
            raise PortTakenError(_explain(bind, wanted, flag, error)) from error
        port: int = probe.getsockname()[1]
        return port


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
