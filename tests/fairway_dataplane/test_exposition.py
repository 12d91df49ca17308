"""What is written, read by another one's parser."""

import operator

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fairway_dataplane.exposition import Family, counter, gauge, histogram, write
from fairway_dataplane.tally import DURATION_SECONDS, Histogram

LABELS = st.tuples(
    # A parser that splits at ends of lines as Python knows them would be no judge of the others.
    st.text(st.characters(codec="utf-8", exclude_categories=("Zl", "Zp", "Cc")) | st.just("\n")),
    st.text(alphabet='a\\"{},= \n'),
)
NUMBERS = st.integers(0, 2**53) | st.floats(allow_nan=False)


def read(*families: Family) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels and value of each sample, by its name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(b"".join(write(families)).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@given(st.lists(st.tuples(LABELS, NUMBERS), max_size=5))
@settings(max_examples=150)
def test_labels_and_numbers_are_read_as_they_are(rows: list[tuple[tuple[str, str], float]]) -> None:
    shown = [({"route": one, "code": two}, float(number)) for (one, two), number in rows]
    labels = ("route", "code")
    assert read(counter("c", "Text.", rows, labels)).get("c_total", []) == shown
    assert read(gauge("g", "Text.", rows, labels)).get("g", []) == shown


@given(LABELS, st.lists(st.floats(0.0, 100.0), max_size=20))
@settings(max_examples=100)
def test_a_histogram_is_read_as_it_was_counted(values: tuple[str, str], seen: list[float]) -> None:
    counted = Histogram(len(DURATION_SECONDS))
    for seconds in seen:
        counted.observe(DURATION_SECONDS, seconds)
    found = read(
        histogram("h", "Text.", DURATION_SECONDS, [(values, counted.cells())], ("route", "a"))
    )
    labels = {"route": values[0], "a": values[1]}
    assert found["h_count"] == [(labels, len(seen))]
    assert found["h_sum"] == [(labels, counted.page.rows[counted.at])]
    bounds = [*DURATION_SECONDS, float("inf")]
    assert [float(row["le"]) for row, _ in found["h_bucket"]] == bounds
    for row, number in found["h_bucket"]:
        assert {**row, **labels} == row
        assert number == sum(seconds <= float(row["le"]) for seconds in seen)


def test_kinds_and_texts_are_said_once_and_before_the_rows() -> None:
    families = (
        counter("c", "What grows.", [(("x",), 1), (("y",), 2)], ("label",)),
        gauge("g", "What moves.", [((), 2.5)]),
        histogram("h", "What is observed.", (1.0,), [((), ())]),
    )
    assert b"".join(write(families)).decode() == (
        "# HELP c_total What grows.\n# TYPE c_total counter\n"
        'c_total{label="x"} 1.0\nc_total{label="y"} 2.0\n'
        "# HELP g What moves.\n# TYPE g gauge\ng 2.5\n"
        "# HELP h What is observed.\n# TYPE h histogram\n"
        'h_bucket{le="1.0"} 0.0\nh_bucket{le="+Inf"} 0.0\nh_count 0.0\nh_sum 0.0\n'
    )


def test_rows_are_made_when_they_are_written() -> None:
    rows = iter([((str(number),), (0.5, 1.0, 0.0)) for number in range(10_000)])
    left = 10_000
    for part in write([histogram("h", "Text.", (1.0,), rows, ("route",))]):
        assert left - operator.length_hint(rows) == part.count(b"h_sum{")
        left = operator.length_hint(rows)
    assert left == 0
