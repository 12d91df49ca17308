"""
What a request costs in machine instructions, the same on a busy machine as on a quiet one.

    python -m bench.counted a an f1000 --json bench/results/steps.json

The worker runs under valgrind's callgrind, all else as it is released, and is asked
in lockstep. Instructions of the kernel are not seen: how often it is called is
counted by ``tests/fairway_dataplane/test_cost.py``. The gate compares the sums; this
program shows the steps that they are made of.
"""

import argparse
import contextlib
import itertools
import json
import re
import shlex
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import install, processes, publish
from bench.arena import Arena, Running, check
from bench.processes import workers
from bench.run import ROOT
from bench.workloads import HOST, WORKLOADS, Load, Shape, Workload

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
    """A contestant did not answer as it should, or cannot be counted."""


COUNTED = tuple(
    workload.name
    for workload in WORKLOADS.values()
    if workload.load is not Load.WEBSOCKET
    and not workload.resume
    and workload.shape == Shape(hosts=workload.shape.hosts)
)
"""What can be asked for in lockstep, of one worker, while nothing else goes on."""

STEPS: Mapping[str, tuple[str, ...]] = {
    "head known or read": ("RepeatedLines_read", "RequestReader_read", "RepeatedLines_learn"),
    "id": ("RequestIds_next",),
    "match": ("RoutingTable_match",),
    "checkout": ("Backend_checkout",),
    "filters, request written": ("Proxy_connected",),
    "answer's head known or read": ("RepeatedHead_read", "answer_read_ordinary"),
    "answer written": ("AnswerSide_start",),
    "account": ("Proxy_finished",),
}
"""Functions of the compiled build, each with all that it calls; none calls another of these."""

_ENTRIES = ("HttpConnection_data_received", "BackendTask_data_received")
"""What the event loop calls for a request and for its answer."""


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions of one request."""

    total: float
    steps: Mapping[str, float]


def main() -> int:
    """Print a table, a column for each workload."""
    options = _options()
    program = install.fairway(ROOT, Path(sys.executable))
    counts: dict[str, Count] = {}
    with (
        tempfile.TemporaryDirectory(prefix="fairway-counted-") as folder,
        Arena(Path(folder), install.install({"valgrind"})) as arena,
    ):
        for name in options.workloads:
            counts |= count(arena, Path(folder) / name, name, program, [WORKLOADS[name]])
    rounded = {
        name: {step: round(cost) for step, cost in one.steps.items()}
        for name, one in counts.items()
    }
    print(publish.steps_table(rounded), end="")
    if options.json:
        options.json.write_text(json.dumps(rounded, indent=2) + "\n")
    return 0


def count(
    arena: Arena, folder: Path, name: str, program: Path, workloads: Sequence[Workload]
) -> dict[str, Count]:
    """
    Return the instructions of one request for each workload; all have the same shape.

    ``folder`` is the contestant's own. Raises WrongError.
    """
    found: dict[str, Count] = {}
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


def _count(running: Running, workload: Workload, folder: Path) -> Count:
    (pid,) = workers(running.process.pid)
    if b"callgrind" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        raise WrongError(f"{running.name}: of a tree too old to have its workers counted")
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
    dumps = {dump: _total(dump) for dump in folder.glob(f"out.{pid}.*")}
    least = min(dumps, key=dumps.__getitem__)
    counted = Count(dumps[least] / many, _steps(least, dumps[least], many))
    for dump in dumps:
        dump.unlink()
    return counted


def _total(dump: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _steps(dump: Path, total: int, requests: int) -> dict[str, float]:
    """Return what each step takes of a request; the last two are what is left."""
    listed = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", str(dump)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    functions: dict[str, int] = {}
    for cost, name in _INCLUSIVE(listed):
        functions[name] = max(functions.get(name, 0), int(cost.replace(",", "")))

    def cost_of(ends: tuple[str, ...]) -> float:
        return sum(cost for name, cost in functions.items() if name.endswith(ends)) / requests

    steps = {step: cost_of(ends) for step, ends in STEPS.items()}
    ours = cost_of(_ENTRIES)
    steps["the rest of ours"] = ours - sum(steps.values())
    steps["event loop, and TLS"] = total / requests - ours
    return steps


_INCLUSIVE = re.compile(r"^ *([\d,]+) [^\n]*?:__pyx_f_(\w+) ", re.MULTILINE).findall


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.counted", description=__doc__)
    parser.add_argument("workloads", nargs="+", choices=COUNTED)
    parser.add_argument("--json", type=Path, metavar="FILE", help="for results/steps.json")
    return parser.parse_args()


if __name__ == "__main__":
    processes.run(main)
