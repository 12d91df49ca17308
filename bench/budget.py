"""
Where the microseconds of one request go.

    python -m bench.budget a c d e f10000

A worker is loaded as by the benchmark and sampled by ``perf`` meanwhile. What a
request cost is measured by the kernel's clock, as everywhere; the samples only
say how it divides, so that the parts always sum to the measured figure. With the
compiled build each module of ours is a part. The docs show the shares kept in
``results/budget.json`` (``--json``) of the figures in ``results/published.json``.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench import install, load, processes
from bench.arena import Arena, Running, check
from bench.processes import workers
from bench.run import ROOT
from bench.workloads import WORKLOADS, Load, Workload

SAMPLES_PER_SECOND = 1999

_LIBRARIES = (
    ("uvloop", ("loop.cpython",)),
    ("httptools", ("parser.cpython",)),
    ("TLS library", ("libssl", "libcrypto", "_ssl.", "_rustls.")),
    ("libc", ("libc.so", "libc-", "libpthread", "ld-linux", "[vdso]")),
    ("interpreter", ("python3", "libpython")),
)


def main() -> int:
    """Print a table for each workload."""
    options = _options()
    programs = install.install(set())
    programs["fairway"] = str(options.fairway or install.fairway(ROOT, Path(sys.executable)))
    shares: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="fairway-budget-") as folder,
        Arena(Path(folder), programs) as arena,
    ):
        for name in options.workloads:
            workload = WORKLOADS[name]
            with contextlib.ExitStack() as stack:
                running = arena.start(stack, "fairway", workload)
                parts = _measure(arena, running, workload, options.seconds)
            _show(workload, parts)
            shares[name] = _shares_of(parts)
    if options.json:
        options.json.write_text(json.dumps(shares, indent=2) + "\n")
    return 0


def _measure(
    arena: Arena, running: Running, workload: Workload, seconds: float
) -> dict[str, float]:
    """Return microseconds of each part of one request."""
    using = arena.generator(workload)
    problem = check(running, using)
    if problem:
        sys.exit(f"budget: {workload.name}: {problem}")
    port, pid = running.port(workload), running.process.pid
    load.saturate(using, port=port, seconds=1, pid=pid)
    (worker,) = workers(pid)
    record = running.setting.folder / f"{workload.name}.perf"
    with subprocess.Popen(
        [
            *("perf", "record", "--quiet", "-F", str(SAMPLES_PER_SECOND)),
            *("-e", "cpu-clock", "-p", str(worker), "-o", str(record)),
            *("--", "sleep", str(seconds)),
        ],
        stderr=subprocess.DEVNULL,
    ) as recording:
        sample = load.saturate(using, port=port, seconds=seconds, pid=pid)
        recording.wait()
    shares = _shares(record)
    return {part: share * sample.cpu_us for part, share in shares.items()}


def _shares(record: Path) -> dict[str, float]:
    done = subprocess.run(
        ["perf", "script", "-F", "ip,sym,dso", "-i", str(record)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    parts = Counter(_part(line) for line in done.stdout.splitlines() if line.strip())
    total = parts.total()
    return {part: count / total for part, count in parts.items()}


def _part(line: str) -> str:
    """Name the part that ``ip symbol (object)`` belongs to."""
    place, _, rest = line.strip().rpartition(" (")
    symbol = place.partition(" ")[2]
    name = rest.removesuffix(")").rpartition("/")[2]
    if name.startswith("[kernel") or name == "[unknown]" or name.endswith(".ko"):
        return "kernel"
    if ".cpython" in name and "fairway" in rest:
        return f"compiled: {name.partition('.')[0]}"
    for part, names in _LIBRARIES:
        if any(known in name for known in names):
            if part == "interpreter" and symbol.startswith(("_PyEval", "PyEval")):
                return "interpreter: bytecode"
            return part if part != "interpreter" else "interpreter: objects and calls"
    return "everything else"


def _show(workload: Workload, parts: Mapping[str, float]) -> None:
    total = sum(parts.values())
    what = "message" if workload.load is Load.WEBSOCKET else "request"
    print(f"\n{workload.name}: {workload.title}; {total:.1f} us for each {what}\n")
    print("| part | µs | share |\n| --- | ---: | ---: |")
    for part, cost in _ordered(parts):
        print(f"| {part} | {cost:.2f} | {cost / total:.0%} |")
    print(f"| **sum** | **{total:.2f}** | |")


def _shares_of(parts: Mapping[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {part: round(cost / total, 4) for part, cost in _ordered(parts)}


def _ordered(parts: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """Largest first; what is below a hundredth of all is one line."""
    total = sum(parts.values())
    rest = "everything else"
    small = {part: cost for part, cost in parts.items() if cost < total / 100 or part == rest}
    shown = [item for item in parts.items() if item[0] not in small]
    shown.sort(key=lambda item: -item[1])
    return [*shown, (rest, sum(small.values()))] if small else shown


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description=__doc__)
    parser.add_argument("workloads", nargs="+", choices=sorted(WORKLOADS))
    parser.add_argument("--fairway", type=Path, metavar="PROGRAM", help="another installation's")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--json", type=Path, metavar="FILE", help="for results/budget.json")
    return parser.parse_args()


if __name__ == "__main__":
    processes.run(main)
