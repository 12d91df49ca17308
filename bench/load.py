"""
The load: wrk where it can make it, ``client.c`` where it cannot.

Both send the requests of a workload from one file. What the load generator
itself uses is not counted; it runs on the other CPU.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.backend import CPU
from bench.processes import cpu_seconds, rss_mb
from bench.workloads import Load, Workload

_SCRIPT = """
local ready, next = {}, 1
function init()
  local file = assert(io.open("%s", "rb"))
  while true do
    local size = file:read(4)
    if not size then break end
    local a, b, c, d = size:byte(1, 4)
    ready[#ready + 1] = file:read(((a * 256 + b) * 256 + c) * 256 + d)
  end
end
function request()
  local found = ready[next]
  next = next %% #ready + 1
  return found
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %%d, "microseconds": %%d, "bytes": %%d, "errors": %%d, ' ..
    '"p50_us": %%d, "p99_us": %%d}\\n',
    summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One contestant, one workload, one round."""

    requests: int
    rps: float
    cpu_us: float
    """User and system time of the process tree for each completed request."""
    system_us: float
    """The system's part of it."""
    p50_ms: float
    p99_ms: float
    errors: int
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Generator:
    """The programs, and the files that they read for one workload."""

    wrk: str
    client: str
    workload: Workload
    requests: Path
    script: Path


def generator(workload: Workload, folder: Path, programs: dict[str, str]) -> Generator:
    """Write the requests of a workload, and the script that has wrk send them."""
    requests = folder / f"{workload.name}.requests"
    with requests.open("wb") as file:
        for request in workload.requests():
            file.write(len(request).to_bytes(4, "big") + request)
    script = folder / f"{workload.name}.lua"
    script.write_text(_SCRIPT % requests)
    return Generator(programs["wrk"], programs["client"], workload, requests, script)


def saturate(using: Generator, *, port: int, seconds: float, pid: int) -> Sample:
    """Ask as fast as a contestant answers, and say what a request cost it."""
    workload = using.workload
    if workload.load is Load.KEEP_ALIVE:
        scheme = "https" if workload.tls else "http"
        command = [
            *(using.wrk, "-t1", f"-c{workload.connections}", f"-d{seconds:.0f}s"),
            *("--timeout", "5s", "-s", str(using.script), f"{scheme}://127.0.0.1:{port}"),
        ]
    else:
        mode = "close" if workload.load is Load.HANDSHAKE else "echo"
        command = [*_client(using, mode, port), f"seconds={seconds}"]
    return _sample(command, workload, pid)


def pace(using: Generator, *, port: int, seconds: float, pid: int, rate: float) -> Sample:
    """
    Ask ``rate`` times a second, however long answers take.

    Every latency counts from the moment its request was due. What was not
    answered in time is an error: then the rate was not kept.
    """
    command = [*_client(using, "rate", port), f"seconds={seconds}", f"rate={rate:.1f}"]
    return _sample(command, using.workload, pid)


def try_client(using: Generator, port: int) -> str | None:
    """Ask for a moment with ``client.c``, which compares every byte; return what is wrong."""
    modes = {Load.KEEP_ALIVE: "rate", Load.HANDSHAKE: "close", Load.WEBSOCKET: "echo"}
    mode = modes[using.workload.load]
    result = _run([*_client(using, mode, port), "seconds=0.3", "rate=100"])
    if result["errors"]:
        return str(result["error"])
    return None if result["requests"] else "no answer"


@contextlib.contextmanager
def hold_idle(using: Generator, port: int) -> Iterator["Idle"]:
    """Hold the idle connections of a workload; each has had one answer."""
    command = [*_client(using, "idle", port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        idle = Idle()
        if process.stdout.readline() != "READY\n":
            idle.errors = 1
        yield idle
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        for line in process.stdout:
            if line.startswith("RESULT "):
                result = json.loads(line.removeprefix("RESULT "))
                missing = using.workload.idle_connections - result["open"]
                idle.errors += result["errors"] + missing


@dataclass(slots=True)
class Idle:
    """What became of the idle connections, after the block."""

    errors: int = 0


def _client(using: Generator, mode: str, port: int) -> list[str]:
    workload = using.workload
    connections = workload.idle_connections if mode == "idle" else workload.connections
    return [
        *(using.client, mode, f"port={port}", f"tls={int(workload.tls)}"),
        *(f"name={workload.host(0)}", f"connections={connections}", f"requests={using.requests}"),
        *(f"answer={workload.answer_bytes}", f"fill={workload.fill}"),
        f"resume={int(workload.resume)}",
    ]


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        ["taskset", "-c", CPU, *command], check=True, capture_output=True, text=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


def _sample(command: list[str], workload: Workload, pid: int) -> Sample:
    before = cpu_seconds(pid)
    result = _run(command)
    user, system = (now - then for now, then in zip(cpu_seconds(pid), before, strict=True))
    requests = result["requests"]
    # An answer shorter than it should be is an error even with status 200.
    short = "bytes" in result and result["bytes"] < requests * workload.answer_bytes
    return Sample(
        requests=requests,
        rps=requests / (result["microseconds"] / 1e6),
        cpu_us=(user + system) * 1e6 / requests if requests else float("inf"),
        system_us=system * 1e6 / requests if requests else float("inf"),
        p50_ms=result["p50_us"] / 1e3,
        p99_ms=result["p99_us"] / 1e3,
        errors=result["errors"] + (1 if short or not requests else 0),
        rss_mb=rss_mb(pid),
    )
