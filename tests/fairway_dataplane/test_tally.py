"""Rows of counters: handed on when their owner ends, and told of a few at a time."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fairway_dataplane.pages import Page
from fairway_dataplane.tally import _SHELF, DURATION_SECONDS, Histogram, Report, Rows, Tally
from fairway_snapshot.steps import finished

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
        tally.keep(routes=staying, backends=staying)
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
    tally.keep(routes=(), backends=())
    after = tally.route("a/two/0").durations
    assert (after.page, after.at) == place, "the row was not handed on"
    assert (after.total, after.sum_seconds) == (0, 0.0)


def test_a_row_of_another_size_is_not_handed_on() -> None:
    small = Histogram(3)
    place = small.page, small.at
    del small
    large = Histogram(4)
    assert (large.page, large.at) != place
    again = Histogram(3)
    assert (again.page, again.at) == place


def test_what_a_worker_reports_is_read_as_it_counted_it_and_a_part_at_a_time() -> None:
    tally = Tally(requests=7, bytes_out=90)
    for number in range(6):
        route, backend = tally.route(f"a/{number}/0"), tally.backend(f"a/{number}:80")
        route.others["GET 404"] = number
        backend.endpoints["in-choice"] = 2
        for _ in range(number):
            route.durations.observe(DURATION_SECONDS, 0.02)
            backend.durations.observe(DURATION_SECONDS, 0.01)
    names = [(route, backend) for route, backend in zip(tally.routes, tally.backends, strict=True)]
    rows = [
        Rows({route: tally.routes[route]}, {backend: tally.backends[backend]}).packed()
        for route, backend in names
    ]
    report = Report(Tally(requests=7, bytes_out=90), rows)

    assert len(list(report.read_in_steps())) == len(rows)
    assert finished(report.read_in_steps()) == tally
    # What was never asked for takes next to nothing on its way.
    assert len(rows[0]) < len(rows[1]) / 2


def test_the_sum_with_what_counted_nothing_is_what_counted() -> None:
    some = Histogram(len(DURATION_SECONDS))
    some.observe(DURATION_SECONDS, 0.02)
    nothing = Histogram(len(DURATION_SECONDS))
    assert some + nothing == nothing + some == some
    assert (some + some).total == 2
    assert (nothing.total, nothing.used, some.used) == (0, False, True)


def test_the_interpreter_ends_in_silence() -> None:
    program = "from fairway_dataplane.tally import *; kept = [Histogram(15) for _ in range(999)]"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
