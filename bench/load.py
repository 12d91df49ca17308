"""Load by wrk, and the CPU time that a process tree used meanwhile."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.workloads import Workload

_TICKS = os.sysconf("SC_CLK_TCK")

_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "microseconds": %d, "bytes": %d, "errors": %d, ' ..
    '"p50_us": %d, "p99_us": %d}\\n',
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
    p50_ms: float
    p99_ms: float
    errors: int
    rss_mb: float


def script(workload: Workload, folder: Path) -> Path:
    """Write the Lua that makes the requests of a workload."""
    headers = dict(workload.headers)
    if workload.close:
        headers["Connection"] = "close"
    method = "POST" if workload.upload_bytes else "GET"
    body = f"string.rep('u', {workload.upload_bytes})" if workload.upload_bytes else "nil"
    fields = ", ".join(f"[{_quote(name)}] = {_quote(value)}" for name, value in headers.items())
    host = f'"h" .. i .. ".{workload.host(0).partition(".")[2]}"'
    if workload.hosts == 1:
        host = _quote(workload.host(0))
    path = folder / f"{workload.name}.lua"
    path.write_text(
        f"""
local ready = {{}}
function init()
  for i = 0, {workload.hosts - 1} do
    local headers = {{{fields}}}
    headers["Host"] = {host}
    ready[i] = wrk.format({_quote(method)}, {_quote(workload.path)}, headers, {body})
  end
end
function request() return ready[math.random(0, {workload.hosts - 1})] end
{_DONE}
"""
    )
    return path


def _quote(text: str) -> str:
    return json.dumps(text)


def run(wrk: str, workload: Workload, lua: Path, *, port: int, seconds: float, pid: int) -> Sample:
    """Load one contestant for ``seconds`` and say what a request cost it."""
    scheme = "https" if workload.tls else "http"
    before = cpu_seconds(pid)
    done = subprocess.run(
        [
            *("taskset", "-c", "1", wrk, "-t1", f"-c{workload.connections}", f"-d{seconds}s"),
            *("--timeout", "5s", "-s", str(lua), f"{scheme}://127.0.0.1:{port}"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    used = cpu_seconds(pid) - before
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    requests = result["requests"]
    # An answer shorter than it should be is an error even with status 200.
    short = requests and result["bytes"] < requests * workload.answer_bytes
    return Sample(
        requests=requests,
        rps=requests / (result["microseconds"] / 1e6),
        cpu_us=used * 1e6 / requests if requests else float("inf"),
        p50_ms=result["p50_us"] / 1e3,
        p99_ms=result["p99_us"] / 1e3,
        errors=result["errors"] + (1 if short else 0),
        rss_mb=rss_mb(pid),
    )


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


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process tree since it started."""
    total = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(value) for value in fields[11:15])
    return total / _TICKS


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process tree, in MiB."""
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
