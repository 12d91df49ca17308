"""What holds for every choice, whatever happens: tried with many histories and no sockets."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.exchange import Exchange
from fairway_dataplane.tally import Tally
from fairway_dataplane.upstream.balancer import Split, build_balancer
from fairway_dataplane.upstream.gradient import LEAST_LIMIT, MOST_LIMIT, Gradient
from fairway_dataplane.upstream.health import Endpoint, Judge, Why
from fairway_snapshot.model import Backend, Balance

EXAMPLES = 200


def endpoints(number: int) -> list[Endpoint]:
    tally = Tally().backend("shop/web:80")
    return [Endpoint(f"192.0.2.{at}", 80, tally, 10) for at in range(1, number + 1)]


def exchange(client: str = "192.0.2.1") -> Exchange:
    made = Exchange(None)  # type: ignore[arg-type] # nobody answers
    made.client_address = client
    return made


@settings(max_examples=EXAMPLES)
@given(
    weights=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    rounds=st.integers(1, 3),
    extra=st.integers(0, 39),
)
def test_a_split_is_exact_in_every_round_and_never_far_off_within(
    weights: list[int], rounds: int, extra: int
) -> None:
    split = Split(list(enumerate(weights)))
    whole = sum(weights)
    chosen = [split.choose() for _ in range(rounds * whole)]
    assert [chosen.count(at) for at in range(len(weights))] == [
        rounds * weight for weight in weights
    ]
    for _ in range(extra):
        chosen.append(split.choose())
        for at, weight in enumerate(weights):
            assert abs(chosen.count(at) - len(chosen) * weight / whole) < len(weights)


@pytest.mark.parametrize("weights", [[0], [0, 0]])
def test_weights_that_are_all_zero_are_no_split(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Split(list(enumerate(weights)))


OUT = st.sets(st.integers(0, 6), max_size=6)


@settings(max_examples=EXAMPLES)
@given(out=OUT, turns=st.integers(1, 5))
def test_the_turn_of_an_endpoint_that_is_out_goes_to_all_others_alike(
    out: set[int], turns: int
) -> None:
    found = endpoints(7)
    for at in out:
        found[at].note_failure(10.0)
    balancer = build_balancer(Backend(endpoints=()), found)
    usable = [endpoint for at, endpoint in enumerate(found) if at not in out]
    chosen = [balancer.choose(exchange(), 10.1) for _ in range(turns * len(usable))]
    assert [chosen.count(endpoint) for endpoint in usable] == [turns] * len(usable)


@pytest.mark.parametrize("balance", [Balance.RANDOM, Balance.LEAST_REQUESTS])
def test_by_chance_too_no_neighbour_gets_the_share_of_another(balance: Balance) -> None:
    found = endpoints(5)
    found[0].note_failure(10.0)
    balancer = build_balancer(Backend(endpoints=(), balance=balance), found)
    chosen = [balancer.choose(exchange(), 10.1) for _ in range(4000)]
    # 1000 each; six standard deviations are 165.
    assert all(835 < chosen.count(endpoint) < 1165 for endpoint in found[1:])


@pytest.mark.parametrize("number", [2, 3, 6])
@pytest.mark.parametrize("balance", [Balance.ROUND_ROBIN, Balance.RANDOM, Balance.LEAST_REQUESTS])
def test_a_cold_endpoint_gets_little_however_idle_it_is(balance: Balance, number: int) -> None:
    found = endpoints(number)
    cold = found[0]
    cold.warm_since = 100.0
    for endpoint in found[1:]:
        endpoint.active = 5
    leaf = Backend(endpoints=(), balance=balance, slow_start_seconds=10.0)
    balancer = build_balancer(leaf, found)
    chosen = [balancer.choose(exchange(), 100.0) for _ in range(2000)]
    fair = len(chosen) / number
    assert 0 < chosen.count(cold) < 0.4 * fair
    # While the others may not serve, being cold is no reason.
    for endpoint in found[1:]:
        endpoint.eject(100.0, 60.0)
    asked = exchange()
    assert {balancer.choose(asked, 100.1) for _ in range(50)} == {cold}
    assert asked.tried == ()


LEAVES = [Backend(endpoints=(), balance=balance) for balance in Balance]


@settings(max_examples=EXAMPLES)
@given(
    leaf=st.sampled_from([*LEAVES, Backend(endpoints=(), sticky_cookie="at")]),
    out=OUT,
    tried=OUT,
    busy=st.lists(st.integers(0, 9), min_size=7, max_size=7),
    client=st.integers(0, 255),
)
def test_no_balancer_takes_one_that_is_out_or_was_tried_while_there_is_another(
    leaf: Backend, out: set[int], tried: set[int], busy: list[int], client: int
) -> None:
    found = endpoints(7)
    for at, active in enumerate(busy):
        found[at].active = active
    for at in out:
        found[at].note_failure(10.0)
    asked = exchange(f"10.0.0.{client}")
    asked.tried = tuple(found[at] for at in tried)
    chosen = build_balancer(leaf, found).choose(asked, 10.1)
    assert chosen is not None
    if len(out | tried) < len(found):
        assert found.index(chosen) not in out | tried
    else:
        assert chosen not in asked.tried


@settings(max_examples=EXAMPLES)
@given(
    number=st.integers(1, 8),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 3)),
            st.tuples(st.just("end"), st.integers(0, 7)),
            st.tuples(st.just("fail"), st.integers(0, 7)),
            st.tuples(st.just("heal"), st.integers(0, 7)),
            st.tuples(st.just("connected"), st.integers(0, 7)),
        ),
        max_size=80,
    ),
)
def test_a_hash_never_loads_an_endpoint_above_its_bound(
    number: int, steps: list[tuple[str, int]]
) -> None:
    found = endpoints(number)
    balancer = build_balancer(Backend(endpoints=(), balance=Balance.CONSISTENT_HASH), found)
    for what, value in steps:
        endpoint = found[value % number]
        match what:
            case "end" if endpoint.active:
                endpoint.active -= 1
            case "connected" if endpoint.opening:
                endpoint.opening, endpoint.active = endpoint.opening - 1, endpoint.active + 1
            case "fail":
                endpoint.note_failure(10.0)
            case "heal":
                endpoint.note_success(10.0)
            case "ask":
                usable = [each for each in found if not each.retry_at] or found
                chosen = balancer.choose(exchange(f"10.0.0.{value}"), 10.0)
                assert chosen in usable
                if chosen.retry_at:
                    continue  # all are out: who may be the first to come back
                chosen.opening += 1
                load = sum(each.active + each.opening for each in usable)
                most = math.ceil(1.25 * load / len(usable))
                assert chosen.active + chosen.opening <= most


VERBS = ("fail", "slow", "unwell", "well", "good", "unreached", "wait", "replace", "shrink")


class History:
    """A backend to which everything happens that can."""

    def __init__(self, number: int, percent: int) -> None:
        self.now = 1000.0
        self.endpoints = endpoints(number)
        tally = Tally().backend("shop/web:80")
        self.judge = Judge(tally, strikes=2, seconds=10.0, percent=percent)
        self.judge.keep(self.endpoints, self.now)

    def happen(self, what: str, value: int) -> None:
        endpoint = self.endpoints[value % len(self.endpoints)]
        match what:
            case "fail":
                self.judge.note_failure(endpoint, self.now)
            case "slow":
                self.judge.eject(endpoint, self.now, Why.LATENCY)
            case "unwell" | "well" if endpoint.unwell != (what == "unwell"):
                self.judge.note_health(endpoint, self.now, unwell=what == "unwell")
            case "good":
                self.judge.note_success(endpoint, self.now)
            case "unreached":
                endpoint.note_failure(self.now)
            case "wait":
                self.now += value
            case _:
                self._change(what, endpoint)

    def _change(self, what: str, endpoint: Endpoint) -> None:
        if what == "replace":
            self.endpoints[self.endpoints.index(endpoint)] = endpoints(1)[0]
        elif what == "shrink" and len(self.endpoints) > 1:
            self.endpoints.remove(endpoint)
        self.judge.keep(self.endpoints, self.now)


@settings(max_examples=EXAMPLES)
@given(
    percent=st.sampled_from([0, 10, 34, 50, 100]),
    number=st.integers(1, 9),
    steps=st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 8)), max_size=60),
)
def test_never_more_than_the_share_is_out(
    percent: int, number: int, steps: list[tuple[str, int]]
) -> None:
    history = History(number, percent)
    for what, value in steps:
        history.happen(what, value)
        found, now = history.endpoints, history.now
        out = [each for each in found if each.is_out(now)]
        assert len(out) * 100 <= len(found) * percent
        for each in found:
            assert (each.retry_at > now) == (each.is_out(now) or each.unreached_until > now)
        if history.judge.panics():
            assert not any(each.barred for each in found)


def test_an_ejection_is_not_cut_short_by_a_connection_that_fails() -> None:
    (endpoint,) = endpoints(1)
    endpoint.eject(1000.0, 60.0)
    endpoint.note_failure(1001.0)
    assert endpoint.retry_at == 1060.0


@settings(max_examples=EXAMPLES)
@given(
    windows=st.lists(
        st.tuples(st.integers(0, 200), st.floats(0.0001, 5.0), st.integers(0, 2000)), max_size=80
    )
)
def test_the_limit_of_a_gradient_stays_within_its_bounds(
    windows: list[tuple[int, float, int]],
) -> None:
    gradient, now = Gradient(), 1000.0
    for answers, seconds, in_flight in windows:
        now += 0.2
        gradient.observe(answers, answers * seconds, in_flight, now)
        assert LEAST_LIMIT <= gradient.limit <= MOST_LIMIT


def test_a_limit_follows_what_a_backend_can_bear() -> None:
    """A backend that works on eight at once for 20 ms each; a hundred clients always ask."""
    gradient, now, limits = Gradient(), 1000.0, []
    for _ in range(600):
        now += 0.2
        working = min(100, gradient.limit)
        seconds = 0.02 * max(1.0, working / 8)
        gradient.shed = 100 - working
        gradient.observe(round(0.2 * working / seconds), working * 0.2, working, now)
        limits.append(gradient.limit)
    settled = sorted(limits[300:])[150]
    assert 8 <= settled <= 24, limits
    assert 0.015 <= gradient.least_seconds <= 0.025


def test_a_limit_that_is_not_felt_does_not_grow() -> None:
    gradient, now = Gradient(), 1000.0
    before = gradient.limit
    for _ in range(200):
        now += 0.2
        gradient.observe(50, 50 * 0.01, 5, now)
    assert gradient.limit == before
