"""
Process trees: the CPU time and the memory that they use, and their end.

What a program of the benchmark starts ends with it, in :func:`alive` and blocks like that. So each
of them is run by :func:`run`: SIGTERM by itself ends a process without ending its blocks.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

_TICKS = os.sysconf("SC_CLK_TCK")


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its status; SIGTERM and SIGHUP end it like Ctrl-C."""
    for each in _ENDING:
        signal.signal(each, _end)
    sys.exit(main())


def _end(number: int, _frame: object) -> NoReturn:
    # Once is enough: the next one must not end what ends the others.
    for each in _ENDING:
        signal.signal(each, lambda *_: None)
    sys.exit(128 + number)  # as a shell says it


_ENDING = (signal.SIGTERM, signal.SIGHUP)


def tree(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo.extend(children.get(current, ()))
    return found


def workers(pid: int) -> list[int]:
    """Return the processes of Fairway's tree that forward."""
    found = []
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"fairway_dataplane.worker" in Path(f"/proc/{member}/cmdline").read_bytes():
                found.append(member)
    return found


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return user and system time of a process tree, of children that have ended as well."""
    user = system = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return user / _TICKS, system / _TICKS


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process tree, in MiB."""
    pages = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def alive(
    process: subprocess.Popen[bytes], grace_seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """End a process with the block, kindly at first."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(port: int, seconds: float) -> None:
    """Wait until somebody listens on a port."""
    limit = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
        else:
            return
