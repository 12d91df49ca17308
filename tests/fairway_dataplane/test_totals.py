"""Reports of workers, added up: exact, a few rows at a time, and nothing of it changed."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fairway_dataplane.tally import DURATION_SECONDS, MATCH_SECONDS, Tally
from fairway_dataplane.totals import Report, Totals, add_in_steps, answers, together
from fairway_snapshot.steps import finished
from tests.fairway_dataplane.counted import report_of, totals_of

NAMES = st.sampled_from(("a/web/0", "a/api/0", "b/web/0"))
SECONDS = st.sampled_from((2.0**-11, 2.0**-8, 0.25, 96.0))
"""Exact in any order of adding."""

Event = Callable[[Tally], None]


def request(name: str, seconds: float) -> Event:
    def count(tally: Tally) -> None:
        tally.requests += 1
        tally.route(name).durations.observe(DURATION_SECONDS, seconds)
        tally.match.observe(MATCH_SECONDS, seconds * 2.0**-17)

    return count


def refusal(name: str, seconds: float) -> Event:
    def count(tally: Tally) -> None:
        request(name, seconds)(tally)
        route = tally.route(name)
        route.others["GET 404"] = route.others.get("GET 404", 0) + 1

    return count


def failure(name: str, seconds: float) -> Event:
    def count(tally: Tally) -> None:
        backend = tally.backend(name)
        backend.requests += 1
        backend.durations.observe(DURATION_SECONDS, seconds)
        backend.errors["timeout"] = backend.errors.get("timeout", 0) + 1

    return count


EVENTS = st.lists(
    st.one_of([st.builds(kind, NAMES, SECONDS) for kind in (request, refusal, failure)])
)


@given(st.lists(EVENTS, max_size=4))
def test_several_workers_have_counted_what_one_would_have(workers: list[list[Event]]) -> None:
    alone, tallies = Tally(), [Tally() for _ in workers]
    for tally, events in zip(tallies, workers, strict=True):
        for event in events:
            event(tally)
            event(alone)
    found, wanted = totals_of(*tallies), totals_of(alone)
    assert found.routes.keys() == wanted.routes.keys()
    assert found.backends == wanted.backends
    assert found.counts == wanted.counts
    for name, counted in found.routes.items():
        assert answers(counted) == answers(wanted.routes[name])
        assert counted == wanted.routes[name]


def test_rows_are_read_a_part_at_a_time_and_leave_what_was_there_before() -> None:
    tally = Tally()
    for number in range(6):
        request(f"a/{number}/0", 0.02)(tally)
        failure(f"a/{number}:80", 0.02)(tally)
    rows = [
        tally.packed_rows(routes=[route], backends=[backend])
        for route, backend in zip(tally.routes, tally.backends, strict=True)
    ]
    before = totals_of(tally)
    report = Report(report_of(tally).counts, rows)

    assert len(list(add_in_steps(before, [report, report]))) == 2 * len(rows)
    assert finished(add_in_steps(before, [report, report])) == totals_of(tally, tally, tally)
    assert before == totals_of(tally)


def test_names_that_were_forgotten_meanwhile_are_left_out() -> None:
    packed = Tally().packed_rows(routes=["a/web/0"], backends=["a/web:80"])
    assert finished(add_in_steps(Totals(), [Report(Totals().counts, [packed])])) == Totals()


def test_a_route_that_nobody_asked_for_takes_next_to_nothing_on_its_way() -> None:
    tally = Tally()
    tally.route("a/quiet/0")
    request("a/asked/0", 0.02)(tally)
    quiet, asked = (tally.packed_rows(routes=[name]) for name in tally.routes)
    assert len(quiet) * 3 < len(asked)


def test_histograms_that_observed_nothing_add_nothing() -> None:
    assert together(((), (0.5, 1.0, 0.0), (), (0.5, 0.0, 2.0))) == (1.0, 1.0, 2.0)
    assert together(((), ())) == ()
