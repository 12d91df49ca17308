"""
Numbered cases: a number is a case for good, as long as the grammar stays.

Numbers that divide by three are answers of backends, the others are requests of clients.
"""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

from tests.fairway_dataplane.catalogue import test_requests, test_responses
from tests.fairway_dataplane.fuzz.request_laws import check_request
from tests.fairway_dataplane.fuzz.response_laws import check_response
from tests.fairway_dataplane.fuzz.rig import Rig
from tests.fairway_dataplane.fuzz.streams import (
    RequestCase,
    ResponseCase,
    make_request_case,
    make_response_case,
)

Case = RequestCase | ResponseCase

REQUEST_SEEDS = tuple(row.sent for row in test_requests.ROWS.values() if len(row.sent) < 4096)
RESPONSE_SEEDS = tuple(row.answer for row in test_responses.ROWS.values() if len(row.answer) < 4096)
"""Streams that somebody thought of; the catalogue sends them over sockets."""


@dataclass
class Findings:
    """What came of a run."""

    count: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, Case, str]] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        self.count += other.count
        self.seconds = max(self.seconds, other.seconds)
        self.outcomes += other.outcomes
        self.violations += other.violations


def make_case(number: int) -> Case:
    random = Random(number)
    if number % 3:
        return make_request_case(random, REQUEST_SEEDS)
    return make_response_case(random, RESPONSE_SEEDS)


def check(rig: Rig, case: Case) -> str:
    """Raise what is wrong with a case, a broken law or a bug, or return what came of it."""
    if isinstance(case, RequestCase):
        return "request " + check_request(rig, case)
    return "response " + check_response(rig, case)


def find(rig: Rig, case: Case) -> str:
    """Return what is wrong with a case, or nothing."""
    try:
        check(rig, case)
    except Exception as error:  # noqa: BLE001 - a bug is a finding like any other
        return f"{type(error).__name__}: {error}"
    return ""


def run(numbers: range, *, seconds: float = float("inf"), most_violations: int = 20) -> Findings:
    """Check cases one after the other, until they or the seconds are over."""
    findings = Findings()
    began = time.monotonic()
    with Rig() as rig:
        for number in numbers:
            case = make_case(number)
            try:
                findings.outcomes[check(rig, case)] += 1
            except Exception as error:  # noqa: BLE001 - a bug is a finding like any other
                findings.violations.append((number, case, f"{type(error).__name__}: {error}"))
                if len(findings.violations) >= most_violations:
                    break
            findings.count += 1
            if not findings.count % 100 and time.monotonic() - began > seconds:
                break
    findings.seconds = time.monotonic() - began
    return findings


def shrink(case: Case) -> Case:
    """Return a smaller case with a finding of the same kind."""
    with Rig() as rig:
        kind = _kind(find(rig, case))
        smaller: Case | None = case
        while smaller is not None:
            case = smaller
            candidates = _smaller(case)
            smaller = next((less for less in candidates if _kind(find(rig, less)) == kind), None)
    return case


def _kind(finding: str) -> list[str]:
    return finding.split(":")[:2]


def _smaller(case: Case) -> list[Case]:
    segments = case.segments
    found = []
    for at in range(1, len(segments)):
        joined = (*segments[: at - 1], segments[at - 1] + segments[at], *segments[at + 1 :])
        found.append(_with(case, joined))
    for size in (64, 16, 4, 1):
        for at, segment in enumerate(segments):
            for start in range(0, len(segment), size):
                rest = segment[:start] + segment[start + size :]
                less = (rest,) if rest else ()
                found.append(_with(case, (*segments[:at], *less, *segments[at + 1 :])))
    return found


def _with(case: Case, segments: tuple[bytes, ...]) -> Case:
    return replace(case, segments=segments)
