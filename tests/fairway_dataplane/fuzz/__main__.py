"""
A long run: ``python -m tests.fairway_dataplane.fuzz --cases 5000000 --processes 2``.

Prints what came of how many cases, and each finding in its smallest form, as it
is written in the corpus.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.fairway_dataplane.fuzz.cases import Findings, run, shrink

BLOCK = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fairway_dataplane.fuzz")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    end = options.first + options.cases
    blocks = [range(at, min(at + BLOCK, end)) for at in range(options.first, end, BLOCK)]
    total = Findings()
    with ProcessPoolExecutor(options.processes) as pool:
        for findings in pool.map(run, blocks):
            total.add(findings)
            for number, case, what in findings.violations:
                _say(f"{number}: {what}\n    {shrink(case)!r}")
            _say(f"{total.count} cases, {len(total.violations)} findings")
    for outcome, count in total.outcomes.most_common():
        _say(f"{count:9} {outcome}")
    return 1 if total.violations else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
