"""
The laws see a broken reader: each row breaks ours in one place, and cases must tell.
"""

import re

import pytest

from fairway_dataplane import framing, policy
from fairway_dataplane.downstream.answering import AnswerSide
from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.upstream import answer
from fairway_dataplane.upstream.backend_task import BackendTask
from tests.fairway_dataplane.fuzz.cases import run

CASES = range(20_000)

BREAKS = {
    "a chunk size may have a prefix": (
        framing,
        "_size_line",
        re.compile(rb"(?:0x)?([0-9A-Fa-f]{1,16})[^\r]?(;.*)?\r\n").fullmatch,
    ),
    "a chunk line may end with LF": (
        framing,
        "_size_line",
        re.compile(rb"([0-9A-Fa-f]{1,16})(;[^\r\n]*)?\r?\n").fullmatch,
    ),
    "any line is a trailer": (framing, "_trailer_line", re.compile(rb"(.*)\n").fullmatch),
    "lengths count for nothing": (policy._OwnFields, "_framing", lambda *_: None),
    "Connection names nothing": (policy, "_NOT_DROPPED", frozenset((b"x-a",))),
    "paths stay as they are": (policy, "normalize_path", bytes),
    "a partial head is thrown away": (HttpConnection, "_hold", lambda *_: None),
    "what is cut short ends well": (AnswerSide, "_abort", AnswerSide._close),
    "204 and 304 have bodies": (answer, "_BODILESS", frozenset()),
    "a connection is kept whatever happened": (
        BackendTask,
        "_last",
        property(lambda _: False, lambda *_: None),
    ),
}


@pytest.mark.parametrize(("place", "name", "broken"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_reader_is_found(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, broken: object
) -> None:
    monkeypatch.setattr(place, name, broken)
    assert run(CASES, most_violations=1).violations
