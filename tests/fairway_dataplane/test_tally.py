"""Rows of counters: handed on when their owner ends, and not before."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fairway_dataplane.pages import Page
from fairway_dataplane.tally import _SHELF, DURATION_SECONDS, Histogram, Tally

ROUNDS = 10_000


def seen_in(pages: dict[int, Page], *found: Histogram) -> None:
    """Keep the page of each: one that is kept cannot become another one by its address."""
    pages.update((id(each.page), each.page) for each in found)


@pytest.fixture(autouse=True)
def no_strangers() -> Iterator[None]:
    """Have nothing of other tests end meanwhile: its rows would be handed out first."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def on_the_shelf() -> dict[int, Page]:
    """Return every page on which a row is to be had."""
    found = [page for rows in _SHELF._free.values() for page, _ in rows]
    return {id(page): page for page in (*found, _SHELF._page)}


def test_routes_that_come_and_go_beside_some_that_stay_need_no_more_pages() -> None:
    before = on_the_shelf()
    tally, pages = Tally(), dict[int, Page]()
    staying = [f"a/stays-{number}/0" for number in range(5)]
    for turn in range(ROUNDS):
        going = [f"a/goes-{turn}-{number}/0" for number in range(5)]
        # A long-lived one starts anywhere among those that go.
        named = [*going, staying[turn * 5 // ROUNDS]]
        for name in named:
            tally.route(name).durations.observe(DURATION_SECONDS, 0.001)
            tally.backend(name).durations.observe(DURATION_SECONDS, 0.001)
            seen_in(pages, tally.route(name).durations, tally.backend(name).durations)
        for name in going:
            del tally.routes[name], tally.backends[name]
    # There is one shelf in a process, and what others have left there is used first.
    assert len(pages.keys() - before.keys()) <= 1
    # Each of those that stayed has its own observations, and nobody else's.
    assert {tally.route(name).durations.total for name in staying} == {ROUNDS // 5}
    assert {tally.backend(name).durations.total for name in staying} == {ROUNDS // 5}


def test_a_new_route_starts_at_nothing() -> None:
    tally = Tally()
    before = tally.route("a/one/0").durations
    before.observe(DURATION_SECONDS, 0.3)
    place = before.page, before.at
    del before
    tally.routes.clear()
    after = tally.route("a/two/0").durations
    assert (after.page, after.at) == place, "the row was not handed on"
    assert (after.total, after.cells()) == (0, ())


def test_a_row_of_another_size_is_not_handed_on() -> None:
    small = Histogram(3)
    place = small.page, small.at
    del small
    large = Histogram(4)
    assert (large.page, large.at) != place
    again = Histogram(3)
    assert (again.page, again.at) == place


def test_the_interpreter_ends_in_silence() -> None:
    program = "from fairway_dataplane.tally import *; kept = [Histogram(15) for _ in range(999)]"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
