"""``make bench``: all contestants, interleaved, in one run."""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import install, network, processes, publish, report
from bench.arena import CONTESTANTS, Arena, Rounds, measure
from bench.workloads import WORKLOADS, Shape, Workload

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"

PEERS = ("traefik", "nginx", "haproxy", "envoy")


def main() -> int:
    """Run the benchmark; 1 when Fairway answered wrongly or with errors."""
    options = _options()
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: two CPUs are needed, one for the proxies and one for the load")
    names = ["fairway", *(name for name in options.peers if name != "fairway")]
    programs = install.install(set(names))
    programs["fairway"] = str(options.fairway or install.fairway(ROOT, Path(sys.executable)))
    found: dict[str, Mapping[str, Rounds]] = {}
    result: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="fairway-bench-") as folder,
        Arena(Path(folder), programs) as arena,
    ):
        for workloads in _by_shape(options.workloads).values():
            with contextlib.ExitStack() as stack:
                running = [arena.start(stack, name, workloads[0]) for name in names]
                for workload in workloads:
                    using = arena.generator(workload)
                    found[workload.name] = measure(
                        using, running, rounds=options.rounds, seconds=options.seconds, paced=True
                    )
                    print(workload.name, _line(found[workload.name]), flush=True)
                    result = _summary(found, options)
                    _write(result, options.json)  # also what a run has that does not end
    report.show(result)
    if options.publish:
        publish.publish(RESULTS / "latest.json")
    return 1 if any(rows["fairway"]["errors"] for rows in result["workloads"].values()) else 0


def _by_shape(names: list[str]) -> dict[Shape, list[Workload]]:
    found: dict[Shape, list[Workload]] = {}
    for name in names:
        found.setdefault(WORKLOADS[name].shape, []).append(WORKLOADS[name])
    return found


def _summary(
    found: Mapping[str, Mapping[str, Rounds]], options: argparse.Namespace
) -> dict[str, Any]:
    ordered = {name: found[name] for name in WORKLOADS if name in found}
    return report.summarize(ordered, _machine(options))


def _write(result: dict[str, Any], copy: str | None) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    for path in {RESULTS / "latest.json", *([Path(copy)] if copy else [])}:
        path.write_text(text)
    (RESULTS / "latest.svg").write_text(report.chart(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--workloads", type=_names(set(WORKLOADS)), default=list(WORKLOADS))
    parser.add_argument("--peers", type=_names(set(CONTESTANTS)), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--fairway", type=Path, metavar="PROGRAM", help="another installation's")
    parser.add_argument("--publish", action="store_true", help="show it in README and docs")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def _names(known: set[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - known)
        if unknown:
            message = f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            raise argparse.ArgumentTypeError(message)
        return names

    return parse


def _line(found: Mapping[str, Rounds]) -> str:
    return "  ".join(
        f"{name} {statistics.median(one.cpu_us for one in rounds.samples):.1f} us"
        if rounds.samples
        else f"{name}: {rounds.problem}"
        for name, rounds in found.items()
    )


def _machine(options: argparse.Namespace) -> dict[str, object]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "congestion_control": network.congestion_control(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


if __name__ == "__main__":
    processes.run(main)
