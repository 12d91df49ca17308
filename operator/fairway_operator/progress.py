"""
How far the present generation of an object has come, in the words that people read.

A Route says it in its condition ``Programmed``. An Ingress has no conditions,
so it says the same by an event, and what is wrong in its status as well.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from fairway_operator.compiler import Serving
from fairway_operator.receipts import Receipt, Receipts
from fairway_operator.refs import ObjectRef
from fairway_snapshot.digest import short

_SHOWN_REFUSALS: Final = 3
_LONGEST_REFUSAL: Final = 1024
"""Characters of one: what a data plane says is as long as it likes, and a condition is not."""


class Progress(StrEnum):
    """Where a generation is; also the reasons of the condition and of events."""

    PENDING = "Pending"
    NO_DATA_PLANES = "NoDataPlanes"
    PROGRAMMED = "Programmed"
    """Every data plane serves it."""
    REJECTED = "Rejected"
    """A data plane keeps what it has, and says why."""
    LAST_GOOD_SERVED = "LastGoodServed"
    NOT_SERVED = "NotServed"


class Programmed(NamedTuple):
    """Where a generation is, and a sentence about it."""

    progress: Progress
    message: str


def programmed(ref: ObjectRef, serving: Serving, receipts: Receipts) -> Programmed:
    """Return what is true of the present generation of an object of ours."""
    if serving.served_generation != serving.generation:
        return Programmed(
            Progress.LAST_GOOD_SERVED, f"generation {serving.served_generation} goes on serving"
        )
    if not serving.routes:
        return Programmed(Progress.NOT_SERVED, "none of its routes is served")
    receipt = receipts.of(ref, serving.generation)
    if receipt is None:
        return Programmed(Progress.PENDING, "it is not published yet")
    return _by_receipt(receipt, receipts)


def _by_receipt(receipt: Receipt, receipts: Receipts) -> Programmed:
    refusals = list(receipts.refusals(receipt))
    if refusals:
        shown = "; ".join(
            f"{name}: {why}"[:_LONGEST_REFUSAL] for name, why in refusals[:_SHOWN_REFUSALS]
        )
        who = (
            "1 data plane refuses" if len(refusals) == 1 else f"{len(refusals)} data planes refuse"
        )
        return Programmed(Progress.REJECTED, f"{who} it: {shown}")
    root = short(receipt.root)[:6]
    if receipt.settled is not None:
        count = receipt.settled.data_planes
        milliseconds = round(receipt.settled.seconds * 1000)
        return Programmed(
            Progress.PROGRAMMED,
            f"{count}/{count} data planes at {root}\N{HORIZONTAL ELLIPSIS} in {milliseconds} ms",
        )
    everyone = len(receipts.data_planes)
    if not everyone:
        return Programmed(Progress.NO_DATA_PLANES, "no data plane is connected")
    done = receipts.serving(receipt)
    return Programmed(
        Progress.PENDING, f"{done}/{everyone} data planes at {root}\N{HORIZONTAL ELLIPSIS}"
    )
