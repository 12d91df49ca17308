"""
The same bytes, read by us and by h11.

Every row of the corpus, then as many numbered cases as the time allows, and some
that hypothesis draws, which also makes a finding small.
"""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fairway_dataplane.fuzz.cases import Case, check, run, shrink
from tests.fairway_dataplane.fuzz.corpus import requests, responses
from tests.fairway_dataplane.fuzz.rig import Rig
from tests.fairway_dataplane.fuzz.streams import make_request_case, make_response_case

CASES = 100_000
SECONDS = 30.0
"""A machine that is fast enough reads all cases; a slow one those of the seconds."""

FEWEST = 3_000


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.mark.parametrize(
    ("case", "outcome"),
    [*requests.ROWS.values(), *responses.ROWS.values()],
    ids=[*requests.ROWS, *responses.ROWS],
)
def test_corpus(rig: Rig, case: Case, outcome: str) -> None:
    assert check(rig, case) == outcome


def test_numbered_cases() -> None:
    findings = run(range(CASES), seconds=SECONDS)
    assert [(number, shrink(case), what) for number, case, what in findings.violations] == []
    assert findings.count >= FEWEST
    # A generator that makes nothing but garbage proves nothing.
    outcomes = findings.outcomes
    for outcome in ("request answered", "response answered"):
        assert outcomes[outcome] > findings.count * 0.1


@given(st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_drawn_requests(random: Random) -> None:
    with Rig() as rig:
        check(rig, make_request_case(random))


@given(st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_drawn_responses(random: Random) -> None:
    with Rig() as rig:
        check(rig, make_response_case(random))
