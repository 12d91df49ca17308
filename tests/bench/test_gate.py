"""What the gate says of numbers that were planted."""

import pytest

from bench.gate import AGAIN, BASE, HEAD, QUIET, judge


@pytest.mark.parametrize(
    ("base", "again", "head", "failed"),
    [
        pytest.param([20.0, 20.0], [20.0, 20.0], [20.0, 20.0], False, id="the same"),
        pytest.param([20.0, 20.0], [20.2, 20.2], [21.4, 21.4], True, id="seven percent"),
        pytest.param([20.0, 20.0], [20.0, 20.0], [20.9, 20.9], False, id="four and a half"),
        pytest.param([20.0, 20.0], [20.0, 20.0], [10.0, 10.0], False, id="twice as fast"),
        pytest.param([20.0, 20.0], [22.0, 22.0], [21.4, 21.4], False, id="within the noise"),
        pytest.param([20.0, 20.0], [22.0, 22.0], [23.2, 23.2], True, id="beyond the noise"),
        pytest.param(
            [31.0, 20.0, 27.0], [20.1, 40.0, 33.0], [50.0, 26.0, 20.3], False, id="a busy machine"
        ),
        pytest.param(
            [31.0, 20.0, 27.0], [20.1, 40.0, 33.0], [50.0, 26.0, 21.6], True, id="both at once"
        ),
    ],
)
def test_only_what_is_worse_beyond_the_noise_fails(
    base: list[float],
    again: list[float],
    head: list[float],
    failed: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert judge("a", {BASE: base, AGAIN: again, HEAD: head}).failed is failed


def test_one_lucky_round_hides_nothing() -> None:
    lucky = [19.0, *[22.0] * 8]
    assert judge("a", {BASE: [20.0] * 9, AGAIN: [20.0] * 9, HEAD: lucky}).head == pytest.approx(
        1.05
    )
    assert judge("a", {BASE: [20.0] * 9, AGAIN: [20.0] * 9, HEAD: [19.0, *[23.0] * 8]}).failed


def test_the_noise_is_how_far_the_merge_base_is_from_itself() -> None:
    verdict = judge("a", {BASE: [20.0, 30.0], AGAIN: [30.0, 20.5], HEAD: [20.4]})
    assert verdict.noise == pytest.approx(0.025)
    assert verdict.head == pytest.approx(1.02)


def test_seven_percent_are_seen_wherever_the_machine_counts_as_quiet() -> None:
    costs = {BASE: [20.0], AGAIN: [20.0 * (1 + QUIET)], HEAD: [20.0 * 1.07]}
    assert judge("a", costs).failed
