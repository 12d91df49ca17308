"""What tallies are on their way to metrics."""

from fairway_dataplane.tally import Tally, unpacked
from fairway_dataplane.totals import Report, Totals, add_in_steps
from fairway_snapshot.steps import finished


def report_of(tally: Tally) -> Report:
    """Return what a worker would report."""
    rows = tally.packed_rows(routes=tally.routes, backends=tally.backends)
    return Report(unpacked(tally.packed()), [rows])


def totals_of(*tallies: Tally) -> Totals:
    """Return what the workers that counted these have counted together."""
    return finished(add_in_steps(Totals(), map(report_of, tallies)))
