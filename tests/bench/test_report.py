"""What a run says of its contestants."""

from xml.etree import ElementTree as ET

from bench.arena import Rounds
from bench.chart import chart
from bench.load import Sample
from bench.report import summarize

MACHINE = {
    "date": "2026-11-21",
    "cpu": "any",
    "cpus": 2,
    "kernel": "6.1",
    "python": "3.11",
    "rounds": 3,
    "seconds": 1,
}


def sample(cpu_us: float, *, errors: int = 0) -> Sample:
    return Sample(
        requests=1000,
        rps=10_000.0,
        cpu_us=cpu_us,
        system_us=cpu_us / 2,
        p50_ms=1.0,
        p99_ms=2.0,
        errors=errors,
        rss_mb=50.0,
    )


def test_a_figure_is_the_median_of_its_rounds() -> None:
    ours = Rounds(samples=[sample(10.0), sample(12.0), sample(90.0)])
    theirs = Rounds(samples=[sample(36.0)] * 3)
    result = summarize({"a": {"fairway": ours, "traefik": theirs}}, MACHINE)
    assert result["workloads"]["a"]["fairway"]["cpu_us"] == 12.0
    assert result["ratio_to_traefik"] == {"a": 3.0}


def test_a_contestant_with_an_error_is_marked_and_not_compared() -> None:
    ours = Rounds(samples=[sample(10.0), sample(10.0, errors=2)])
    silent = Rounds(problem="no answer")
    result = summarize(
        {"a": {"fairway": ours, "traefik": Rounds(samples=[sample(30.0)]), "nginx": silent}},
        MACHINE,
    )
    rows = result["workloads"]["a"]
    assert (rows["fairway"]["errors"], rows["nginx"]["errors"]) == (2, 1)
    assert rows["nginx"]["problem"] == "no answer"
    assert result["ratio_to_traefik"] == {}


def test_an_error_at_half_of_saturation_counts_too() -> None:
    ours = Rounds(samples=[sample(10.0)], paced=[sample(10.0, errors=1)])
    result = summarize({"a": {"fairway": ours}}, MACHINE)
    assert result["workloads"]["a"]["fairway"]["errors"] == 1


def test_the_chart_shows_each_contestant_and_where_it_was_measured() -> None:
    found = {
        "a": {
            "fairway": Rounds(samples=[sample(10.0)]),
            "traefik": Rounds(samples=[sample(30.0)]),
            "nginx": Rounds(problem="no answer"),
        }
    }
    image = chart(summarize(found, MACHINE))
    texts = "".join(ET.fromstring(image).itertext())
    for text in ("fairway 10.0 µs", "traefik 30.0 µs", "nginx: errors", "2026-11-21", "any"):
        assert text in texts
