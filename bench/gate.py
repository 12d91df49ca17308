"""
``make bench-gate``: is HEAD slower than the commit it started from?

The merge base is checked out beside the tree and installed into an environment
of its own. It runs twice, as two contestants, and HEAD beside them: what differs
between the two equal ones is the noise of this machine at this time, and only what
is worse by more than five percent beyond that fails.

First the instructions of a request are counted (:mod:`bench.counted`), which is
hardly noisy and sees a few percent of our own code on any machine. Then CPU time is
measured, interleaved, which sees the kernel's part too and needs a quiet machine.
For that all are started anew in each sitting: where its memory came to lie makes a
process some percent faster or slower for as long as it lives, so further rounds of
the same processes would only make a chance more certain. While the sittings are too
few to tell, there are more.
"""

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import counted, install, processes
from bench.arena import Arena, costs_of, errors_of, measure
from bench.workloads import WORKLOADS, Shape, Workload

ROOT = Path(__file__).parent.parent
TREES = ROOT / ".cache" / "gate"
GATED = ("a", "ah", "c", "d", "f1000")
WORSE = 1.05
"""HEAD may cost so many times what its merge base costs, beyond the noise."""

QUIET = 0.015
"""Noise that leaves a slow-down of seven percent in sight; with more, sittings are added."""

MOST = 3
"""So many times the sittings that were asked for, at most."""

BASE, AGAIN, HEAD = "base", "base again", "head"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One workload: costs as multiples of the merge base's."""

    workload: str
    noise: float
    """What chance may add to ``head``, from how far two equal contestants were apart."""
    head: float

    @property
    def failed(self) -> bool:
        """Whether HEAD is worse by more than is allowed and more than the noise explains."""
        return self.head > WORSE + self.noise


def main() -> int:
    """Measure, say what was found, and return 1 if HEAD is slower or answered wrongly."""
    options = _options()
    base = _merge_base(options.base)
    head = _git("rev-parse", "--verify", f"{options.head}^{{commit}}") if options.head else None
    _remove_trees({base, head})
    programs = {
        BASE: _installed(base),
        AGAIN: _installed(base),
        HEAD: _installed(head) if head else install.fairway(ROOT, Path(sys.executable)),
    }
    name = head[:12] if head else "HEAD"
    print(
        f"gate: {name} against {base[:12]},"
        f" {options.sittings} sittings of {options.rounds} rounds of {options.seconds} s"
    )
    errors: set[str] = set()
    with (
        tempfile.TemporaryDirectory(prefix="fairway-gate-") as folder,
        Arena(Path(folder), install.install({"valgrind"})) as arena,
    ):
        try:
            counts = _count(arena, Path(folder), programs, options)
        except counted.WrongError as error:
            sys.exit(f"gate: {error}")
        sittings = {} if options.counted else _measure(arena, programs, options, errors)
    verdicts = [
        *_say("instructions", counts),
        *_say("CPU", {name: found for name, found in sittings.items() if name not in errors}),
    ]
    if errors:
        print(f"gate: wrong answers or errors on {', '.join(sorted(errors))}")
    return 1 if errors or any(verdict.failed for verdict in verdicts) else 0


def _say(what: str, found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Verdict]:
    verdicts = [judge(workload, sittings) for workload, sittings in found.items()]
    for verdict in verdicts:
        word = "SLOWER" if verdict.failed else "ok"
        print(
            f"gate: {verdict.workload}: HEAD costs {verdict.head - 1:+.1%} {what}, with a noise"
            f" of {verdict.noise:.1%} after {len(found[verdict.workload])} sittings  {word}"
        )
    return verdicts


def judge(workload: str, sittings: Sequence[Mapping[str, float]]) -> Verdict:
    """
    Compare costs per request, one for each sitting and contestant.

    HEAD's multiple is the geometric mean over the sittings, against both runs of
    the merge base. The noise is twice the standard error of that mean, which
    follows from how far the two equal contestants were apart in each sitting.
    """
    apart = [math.log(costs[AGAIN] / costs[BASE]) for costs in sittings]
    heads = [math.log(costs[HEAD]) - math.log(costs[BASE] * costs[AGAIN]) / 2 for costs in sittings]
    # ``apart`` has the variance of two contestants, a head that of one and the mean of two.
    deviation = math.sqrt(statistics.fmean(each * each for each in apart) * 3 / 4)
    noise = 2 * deviation / math.sqrt(len(sittings))
    return Verdict(workload, noise, math.exp(statistics.fmean(heads)))


def least(costs: Sequence[float]) -> float:
    """Return a cost near the least of some rounds: other work on the machine only ever adds."""
    return statistics.fmean(sorted(costs)[: (len(costs) + 1) // 2])


def _count(
    arena: Arena, folder: Path, programs: Mapping[str, Path], options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Count what each contestant does for a request, one after another: one sitting."""
    counts: dict[str, dict[str, float]] = {name: {} for name in options.workloads}
    for number, workloads in enumerate(_by_shape(options.workloads).values()):
        for at, (name, program) in enumerate(programs.items()):
            place = folder / f"counted-{number}-{at}"
            for workload, count in counted.count(arena, place, name, program, workloads).items():
                counts[workload][name] = count.total
    for workload, found in counts.items():
        shown = ", ".join(f"{who} {count:,.0f}" for who, count in found.items())
        print(f"gate: {workload}: instructions: {shown}", flush=True)
    return {workload: [found] for workload, found in counts.items()}


def _measure(
    arena: Arena, programs: Mapping[str, Path], options: argparse.Namespace, errors: set[str]
) -> dict[str, list[dict[str, float]]]:
    """Measure in as many sittings as it takes; workloads with an error are added to ``errors``."""
    sittings: dict[str, list[dict[str, float]]] = {name: [] for name in options.workloads}
    for number in range(MOST * options.sittings):
        wanted = [
            name
            for name, found in sittings.items()
            if name not in errors
            and (number < options.sittings or judge(name, found).noise > QUIET)
        ]
        for workloads in _by_shape(wanted).values():
            for name, costs in _sit(arena, programs, workloads, number, options).items():
                if costs is None:
                    errors.add(name)
                    continue
                sittings[name].append(costs)
                shown = ", ".join(f"{who} {cost:.1f} us" for who, cost in costs.items())
                print(f"gate: {name}: {shown}", flush=True)
    return sittings


def _sit(
    arena: Arena,
    programs: Mapping[str, Path],
    workloads: Sequence[Workload],
    number: int,
    options: argparse.Namespace,
) -> dict[str, dict[str, float] | None]:
    """Start all contestants and measure them; None for a workload with an error."""
    names = list(programs)
    # Nobody is always the first to be started.
    names = names[number % len(names) :] + names[: number % len(names)]
    sitting: dict[str, dict[str, float] | None] = {}
    with contextlib.ExitStack() as stack:
        running = [arena.start(stack, name, workloads[0], programs[name]) for name in names]
        for workload in workloads:
            using = arena.generator(workload)
            found = measure(using, running, rounds=options.rounds, seconds=options.seconds)
            wrong = any(errors_of(rounds) for rounds in found.values())
            costs = costs_of(found)
            sitting[workload.name] = (
                None if wrong else {name: least(costs[name]) for name in programs}
            )
    return sitting


def _by_shape(names: Sequence[str]) -> dict[Shape, list[Workload]]:
    found: dict[Shape, list[Workload]] = {}
    for name in names:
        found.setdefault(WORKLOADS[name].shape, []).append(WORKLOADS[name])
    return found


def _merge_base(wanted: str | None) -> str:
    """Return the commit to compare with; on the main line itself, the one before."""
    if wanted is not None:
        return _git("rev-parse", "--verify", f"{wanted}^{{commit}}")
    head = _git("rev-parse", "HEAD")
    known = _git("for-each-ref", "--format=%(refname)", "refs/remotes/origin/main")
    base = _git("merge-base", "HEAD", known or "HEAD~1")
    return _git("rev-parse", "HEAD~1") if base == head else base


def _installed(commit: str) -> Path:
    """Return the program of a commit, checked out and installed once."""
    tree = TREES / commit[:12]
    python = tree / ".venv" / "bin" / "python"
    done = tree / ".venv" / ".installed"
    if not done.exists():
        if not tree.exists():
            _git("worktree", "add", "--force", "--detach", str(tree), commit)
        env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        subprocess.run(
            ["make", "--silent", "install", f"PYTHON={sys.executable}"],
            cwd=tree,
            env=env,
            check=True,
        )
    return install.fairway(tree, python)


def _remove_trees(needed: set[str | None]) -> None:
    kept = {commit[:12] for commit in needed if commit}
    for old in TREES.glob("*"):
        if old.name not in kept:
            _git("worktree", "remove", "--force", str(old))
    _git("worktree", "prune")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-gate", description=__doc__)
    parser.add_argument("--base", metavar="COMMIT", help="instead of the merge base with main")
    parser.add_argument("--head", metavar="COMMIT", help="instead of the tree as it is")
    parser.add_argument("--workloads", type=lambda text: text.split(","), default=list(GATED))
    parser.add_argument("--sittings", type=int, default=5)
    parser.add_argument("--counted", action="store_true", help="count, and measure nothing")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    processes.run(main)
