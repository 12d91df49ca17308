"""
``make bench-gate``: is HEAD slower than the commit it started from?

The merge base is checked out beside the tree and installed into an environment
of its own. It runs twice, as two contestants, and HEAD beside them, all
interleaved in one run: what differs between the two equal ones is the noise of
this machine at this time, and only what is worse by more than five percent
beyond that fails. While the two are too far apart, it measures on.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import install
from bench.arena import Arena, costs_of, errors_of, measure
from bench.workloads import WORKLOADS, Shape, Workload

ROOT = Path(__file__).parent.parent
TREES = ROOT / ".cache" / "gate"
GATED = ("a", "ah", "c", "d", "f1000")
WORSE = 1.05
"""HEAD may cost so many times what its merge base costs, beyond the noise."""

QUIET = 0.015
"""Noise that leaves a slow-down of seven percent in sight; with more, rounds are added."""

BASE, AGAIN, HEAD = "base", "base again", "head"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One workload: costs as multiples of the merge base's."""

    workload: str
    noise: float
    """How far the two runs of the same commit are apart; 0.02 is two percent."""
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
    print(f"gate: {name} against {base[:12]}, {options.rounds} rounds of {options.seconds} s")
    verdicts, errors = _measure(programs, options)
    print("gate: noise, the merge base against itself: ", end="")
    print(", ".join(f"{verdict.workload} {verdict.noise:.1%}" for verdict in verdicts))
    for verdict in verdicts:
        word = "SLOWER" if verdict.failed else "ok"
        print(f"gate: {verdict.workload}: HEAD costs {verdict.head - 1:+.1%}  {word}")
    if errors:
        print(f"gate: wrong answers or errors on {', '.join(sorted(errors))}")
    return 1 if errors or any(verdict.failed for verdict in verdicts) else 0


def judge(workload: str, rounds: Mapping[str, Sequence[float]]) -> Verdict:
    """
    Compare costs per request, one for each round and contestant.

    Other work on the machine only ever adds to a cost, so that a contestant's
    own cost is near its least: the mean of the lowest third of its rounds, of
    which one may be lucky. The noise is how far the two runs of the merge base
    are apart.
    """
    least = {name: _least(costs) for name, costs in rounds.items()}
    base = min(least[BASE], least[AGAIN])
    noise = max(least[BASE], least[AGAIN]) / base - 1
    return Verdict(workload, noise, least[HEAD] / base)


def _least(costs: Sequence[float]) -> float:
    return statistics.fmean(sorted(costs)[: max(1, len(costs) // 3)])


def _measure(
    programs: Mapping[str, Path], options: argparse.Namespace
) -> tuple[list[Verdict], set[str]]:
    verdicts: list[Verdict] = []
    errors: set[str] = set()
    with (
        tempfile.TemporaryDirectory(prefix="fairway-gate-") as folder,
        Arena(Path(folder), install.install(set())) as arena,
    ):
        for workloads in _by_shape(options.workloads).values():
            with contextlib.ExitStack() as stack:
                running = [
                    arena.start(stack, name, workloads[0], program)
                    for name, program in programs.items()
                ]
                for workload in workloads:
                    using = arena.generator(workload)
                    found = measure(
                        using,
                        running,
                        rounds=options.rounds,
                        seconds=options.seconds,
                        enough=lambda found: judge("", costs_of(found)).noise <= QUIET,
                    )
                    if any(errors_of(rounds) for rounds in found.values()):
                        errors.add(workload.name)
                        continue
                    costs = costs_of(found)
                    verdicts.append(judge(workload.name, costs))
                    print(f"gate: {workload.name}: {_costs(costs)}", flush=True)
    return verdicts, errors


def _by_shape(names: Sequence[str]) -> dict[Shape, list[Workload]]:
    found: dict[Shape, list[Workload]] = {}
    for name in names:
        found.setdefault(WORKLOADS[name].shape, []).append(WORKLOADS[name])
    return found


def _costs(costs: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{who} {_least(found):.1f} us" for who, found in costs.items())


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
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
