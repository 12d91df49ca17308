"""That README and docs show the run that is kept, and nothing else."""

import json

import pytest

from bench.publish import BUDGET, PUBLISHED, ROOT, TARGETS, pages
from bench.workloads import WORKLOADS

RESULT = json.loads(PUBLISHED.read_text())
PAGES = {str(path.relative_to(ROOT)): (path, text) for path, text in pages(RESULT)}


@pytest.mark.parametrize("name", PAGES)
def test_what_is_shown_is_what_was_measured(name: str) -> None:
    path, text = PAGES[name]
    assert path.read_text() == text, "run: python -m bench.publish bench/results/published.json"


def test_every_workload_was_measured_on_every_contestant() -> None:
    assert set(RESULT["workloads"]) == set(WORKLOADS)
    for rows in RESULT["workloads"].values():
        assert {"fairway", "traefik", "nginx", "haproxy", "envoy"} <= set(rows)


def test_fairway_made_no_error() -> None:
    assert {name: rows["fairway"]["errors"] for name, rows in RESULT["workloads"].items()} == (
        dict.fromkeys(RESULT["workloads"], 0)
    )


def test_a_figure_without_its_share_is_not_shown() -> None:
    """The ratios are those of the figures beside them."""
    for name, ratio in RESULT["ratio_to_traefik"].items():
        rows = RESULT["workloads"][name]
        assert ratio == pytest.approx(
            rows["traefik"]["cpu_us"] / rows["fairway"]["cpu_us"], abs=0.006
        )


def test_the_budget_sums_to_what_was_measured() -> None:
    """Every part is of the published figure, and no share is above all of it."""
    for shares in json.loads(BUDGET.read_text()).values():
        assert 0.99 < sum(shares.values()) < 1.01


def test_targets_are_of_workloads_that_exist() -> None:
    assert TARGETS.keys() <= WORKLOADS.keys()
