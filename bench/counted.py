"""
What a request costs in machine instructions, the same on a busy machine as on a quiet one.

The worker runs under valgrind's callgrind, all else as it is released, and is asked
in lockstep. Instructions of the kernel are not seen: how often it is called is
counted by ``tests/fairway_dataplane/test_cost.py``.
"""

import contextlib
import itertools
import re
import shlex
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.arena import Arena, Running, check
from bench.processes import workers
from bench.workloads import HOST, Load, Workload

BATCH = 400
"""Requests of one connection: fewer than after which a proxy may close it."""

TIMES = 5
"""So often is everything asked and counted again; the least counts."""

LIMIT_SECONDS = 60.0

_SITE = """
import os, sys

os.environ.setdefault("BENCH_PYTHON", sys.executable)
sys.executable = {python!r}
"""
"""Children are started by that Python instead."""

_PYTHON = """#!/bin/sh
case "$*" in
*fairway_dataplane.worker*)
  exec valgrind --quiet --tool=callgrind --instr-atstart=no \\
    --callgrind-out-file={out}.%p "$BENCH_PYTHON" "$@" ;;
esac
exec "$BENCH_PYTHON" "$@"
"""

_PROGRAM = """#!/bin/sh
PYTHONPATH={site} PYTHONHASHSEED=0 exec {program} "$@"
"""


class WrongError(Exception):
    """A contestant did not answer as it should."""


def count(
    arena: Arena, folder: Path, name: str, program: Path, workloads: Sequence[Workload]
) -> dict[str, float]:
    """
    Return the instructions of one request for each workload; all have the same shape.

    ``folder`` is the contestant's own. Raises WrongError.
    """
    found: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        running = arena.start(stack, name, workloads[0], _watched(program, folder))
        for workload in workloads:
            problem = check(running, arena.generator(workload))
            if problem:
                raise WrongError(f"{name}, {workload.name}: {problem}")
            found[workload.name] = _count(running, workload, folder)
    return found


def _watched(program: Path, folder: Path) -> Path:
    """Return a program whose workers run under callgrind, and which is else the same."""
    site, python, watched = folder / "site", folder / "python", folder / "fairway"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text(_SITE.format(python=str(python)))
    _script(python, _PYTHON.format(out=shlex.quote(str(folder / "out"))))
    quoted = {"site": shlex.quote(str(site)), "program": shlex.quote(str(program))}
    _script(watched, _PROGRAM.format(**quoted))
    return watched


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _count(running: Running, workload: Workload, folder: Path) -> float:
    (pid,) = workers(running.process.pid)
    large = workload.answer_bytes + workload.upload_bytes > 1 << 16
    # Every different one, in turn: what is counted was met as long ago as what will be.
    many = BATCH // 10 if large else max(BATCH, workload.shape.hosts, workload.variants)
    requests = list(itertools.islice(itertools.cycle(workload.requests()), many))
    _tell(pid, "instrumentation", "on")
    _ask(running, workload, requests)
    for _ in range(TIMES):
        _tell(pid, "zero")
        _ask(running, workload, requests)
        _tell(pid, "dump")
    _tell(pid, "instrumentation", "off")
    # Timers and scrapes come when they come, and only ever add.
    return min(map(_total, folder.glob(f"out.{pid}.*"))) / many


def _total(dump: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    dump.unlink()
    assert found is not None
    return int(found[1])


def _tell(pid: int, *words: str) -> None:
    subprocess.run(["vgdb", f"--pid={pid}", *words], check=True, capture_output=True)


def _ask(running: Running, workload: Workload, requests: Sequence[bytes]) -> None:
    """Send one request after another, each after the answer to the one before."""
    batch = 1 if workload.load is Load.HANDSHAKE else BATCH
    context = _context() if workload.tls else None
    for start in range(0, len(requests), batch):
        with _connection(running.port(workload), context) as connection:
            for request in requests[start : start + batch]:
                connection.sendall(request)
                _receive(connection, workload)


@contextlib.contextmanager
def _connection(port: int, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname=HOST) as secure:
                yield secure


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _receive(connection: socket.socket, workload: Workload) -> None:
    received = bytearray()
    end = -1
    while end < 0 or len(received) < end + 4 + workload.answer_bytes:
        more = connection.recv(1 << 18)
        if not more:
            raise WrongError(f"{workload.name}: closed after {len(received)} bytes")
        received += more
        end = received.find(b"\r\n\r\n")
    if not received.startswith(b"HTTP/1.1 200 "):
        raise WrongError(f"{workload.name}: {bytes(received[:100])!r}")
