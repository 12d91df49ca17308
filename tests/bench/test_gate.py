"""What the gate says of numbers that were planted."""

import random

import pytest

from bench.gate import AGAIN, BASE, HEAD, QUIET, judge, least


def sittings(*costs: tuple[float, float, float]) -> list[dict[str, float]]:
    """Return sittings of the merge base, the merge base again, and HEAD."""
    return [{BASE: base, AGAIN: again, HEAD: head} for base, again, head in costs]


@pytest.mark.parametrize(
    ("costs", "failed"),
    [
        pytest.param([(20.0, 20.0, 20.0)] * 5, False, id="the same"),
        pytest.param([(20.0, 20.2, 21.5)] * 5, True, id="seven percent"),
        pytest.param([(20.0, 20.0, 20.9)] * 5, False, id="four and a half"),
        pytest.param([(20.0, 20.0, 10.0)] * 5, False, id="twice as fast"),
        pytest.param([(20.0, 22.0, 22.4), (22.0, 20.0, 22.4)], False, id="within the noise"),
        pytest.param([(20.0, 22.0, 25.0), (22.0, 20.0, 25.0)], True, id="beyond the noise"),
        pytest.param([(20.0, 20.0, 20.0), (40.0, 40.0, 40.4)], False, id="a machine half as fast"),
        pytest.param([(20.0, 20.0, 21.5), (40.0, 40.0, 43.0)], True, id="both at once"),
    ],
)
def test_only_what_is_worse_beyond_the_noise_fails(
    costs: list[tuple[float, float, float]],
    failed: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert judge("a", sittings(*costs)).failed is failed


def test_two_lucky_equals_in_one_sitting_hide_no_noise() -> None:
    found = sittings((20.0, 20.0, 21.2), (20.0, 21.5, 21.2), (21.5, 20.0, 21.2))
    assert judge("a", found).noise > 0.03


def test_a_round_that_was_disturbed_counts_for_nothing() -> None:
    assert least([20.0, 35.0]) == 20.0
    assert least([20.0, 21.0, 90.0]) == 20.5


def test_more_sittings_make_less_noise() -> None:
    few = [(20.0, 20.6, 20.0), (20.6, 20.0, 20.0)]
    assert judge("a", sittings(*few * 4)).noise == pytest.approx(
        judge("a", sittings(*few)).noise / 2
    )


@pytest.mark.parametrize(("worse", "failed"), [(1.0, False), (1.09, True)])
def test_chance_decides_seldom(worse: float, failed: bool) -> None:  # noqa: FBT001 - as above
    """Processes that differ by two percent each, for no reason, as they do."""
    dice = random.Random(7)
    verdicts = []
    for _ in range(200):
        costs = [
            (dice.gauss(20.0, 0.4), dice.gauss(20.0, 0.4), dice.gauss(20.0 * worse, 0.4))
            for _ in range(9)
        ]
        verdicts.append(judge("a", sittings(*costs)).failed)
    assert verdicts.count(failed) >= 195


def test_seven_percent_are_seen_wherever_the_machine_counts_as_quiet() -> None:
    costs = sittings((20.0, 20.0, 20.0 * (1.05 + QUIET) * 1.001))
    assert judge("a", costs).failed
