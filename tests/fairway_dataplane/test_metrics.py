import math

from fairway_dataplane.exposition import PART_SIZE
from fairway_dataplane.metrics import Readings, percentile, render
from fairway_dataplane.tally import DURATION_SECONDS, Tally
from fairway_dataplane.totals import Totals, add_in_steps
from fairway_snapshot.steps import finished
from tests.fairway_dataplane.counted import report_of, totals_of


def a_tally(requests: int) -> Tally:
    tally = Tally(requests=requests, connections_open=1, handshakes={"TLSv1.3 false ok": 1})
    route = tally.route("shop/cart/0")
    for _ in range(requests):
        route.durations.observe(DURATION_SECONDS, 0.004)
    route.durations.observe(DURATION_SECONDS, 0.04)
    route.others["GET 404"] = 1
    backend = tally.backend("shop/cart:80")
    backend.active, backend.connects = 1, 2
    backend.errors["upstream-connect"] = requests
    return tally


def readings_of(totals: Totals) -> Readings:
    return Readings(
        totals=totals,
        digest="4f1c9a",
        sequence=7,
        applied_at=1000.0,
        rejected={"verify": 1},
        certificate_seconds={"shop.example": 60.0},
        workers=2,
        connected=True,
    )


def shown(totals: Totals) -> list[str]:
    return b"".join(render(readings_of(totals))).decode().splitlines()


def test_the_metrics_of_two_workers_are_their_sum() -> None:
    lines = shown(totals_of(a_tally(2), a_tally(3)))

    for line in (
        'fairway_requests_total{code="200",method="GET",route="shop/cart/0"} 5.0',
        'fairway_request_duration_seconds_bucket{le="0.0025",route="shop/cart/0"} 0.0',
        'fairway_request_duration_seconds_bucket{le="0.005",route="shop/cart/0"} 5.0',
        'fairway_request_duration_seconds_bucket{le="+Inf",route="shop/cart/0"} 7.0',
        'fairway_request_duration_seconds_count{route="shop/cart/0"} 7.0',
        'fairway_request_duration_seconds_sum{route="shop/cart/0"} 0.1',
        'fairway_requests_total{code="404",method="GET",route="shop/cart/0"} 2.0',
        'fairway_upstream_connections{backend="shop/cart:80",state="active"} 2.0',
        'fairway_upstream_errors_total{backend="shop/cart:80",reason="upstream-connect"} 5.0',
        'fairway_downstream_connections{protocol="http/1.1"} 2.0',
        'fairway_tls_handshakes_total{result="ok",resumed="false",version="TLSv1.3"} 2.0',
        'fairway_certificate_expiry_seconds{host="shop.example"} 60.0',
        'fairway_snapshot_info{digest="4f1c9a",sequence="7"} 1.0',
        "fairway_snapshot_applied_timestamp_seconds 1000.0",
        'fairway_snapshot_rejected_total{reason="verify"} 1.0',
    ):
        assert line in lines


def test_what_is_counted_is_shown_in_parts() -> None:
    tally = Tally()
    for number in range(200):
        tally.route(f"shop/{number}/0").others["GET 404"] = 1
        tally.backend(f"shop/{number}:80")
    parts = list(render(readings_of(totals_of(tally))))
    assert len(parts) > 10
    assert max(map(len, parts)) < 2 * PART_SIZE


def test_a_worker_that_is_gone_leaves_its_counts_and_not_its_levels() -> None:
    gone = totals_of(a_tally(2)).lasting()

    lines = shown(finished(add_in_steps(gone, [report_of(a_tally(1))])))

    assert 'fairway_requests_total{code="200",method="GET",route="shop/cart/0"} 3.0' in lines
    assert 'fairway_upstream_connections{backend="shop/cart:80",state="active"} 1.0' in lines
    assert 'fairway_downstream_connections{protocol="http/1.1"} 1.0' in lines
    assert gone == totals_of(a_tally(2)).lasting()


def test_a_percentile_is_the_bound_of_its_bucket() -> None:
    assert percentile((1.0, 2.0), [98, 2, 0], 0.99) == 2.0
    assert percentile((1.0, 2.0), [99, 1, 0], 0.99) == 1.0
    assert percentile((1.0, 2.0), [0, 0, 1], 0.99) == math.inf
