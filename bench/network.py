"""
A network of the benchmark's own, set as kernels usually are.

Loopback has segments of 64 KiB, of which a congestion control that paces, such as BBR, holds
single ones back for 50 ms when a connection has been idle. Machines that serve files far away
are often set so; what is measured then is that and no proxy. In a network namespace it can be
set otherwise without touching the machine, and nobody else's traffic is there.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

CONGESTION_CONTROL = "cubic"
"""Linux has it unless told otherwise."""

_SETTING = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def own() -> Iterator[None]:
    """
    Have this thread, and all that it starts, in a network namespace of its own.

    Without the right to make one they stay where they are.
    """
    if os.geteuid() != 0:
        print(f"bench: not root, so on the machine's own network ({congestion_control()})")
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        _check(libc.unshare(_CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            _SETTING.write_text(CONGESTION_CONTROL)
            yield
        finally:
            _check(libc.setns(before.fileno(), _CLONE_NEWNET))


def congestion_control() -> str:
    """Return what TCP connections of this thread's network have."""
    return _SETTING.read_text().strip()


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
