"""What a listener does only if it is told to: trailers are passed on, slashes are merged."""

from typing import TYPE_CHECKING

import pytest

from tests.fairway_dataplane.request_path.conftest import BACKEND, answer_ok, answering, route, to

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import StageMaker

CHUNKED = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n"
WITH_TRAILER = CHUNKED + b"Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-n: 2\r\n\r\n"
ASKING = b"GET /x HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
ANSWER = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: X-Sum\r\n\r\n"
    b"2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Type: text/evil\r\n\r\n"
)


async def test_trailers_of_a_request_are_passed_on(make_stage: "StageMaker") -> None:
    stage = await make_stage(pass_trailers=True)
    client = await stage.connect()
    client.send(WITH_TRAILER)
    link = await stage.upstream.link()
    await stage.settle(lambda: link.received.endswith(b"\r\n\r\n") and b"x-n" in link.received)
    head, _, body = bytes(link.received).partition(b"\r\n\r\n")
    assert b"\r\ntrailer: X-Sum" in head
    assert body == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-n: 2\r\n\r\n"


@pytest.mark.parametrize("cut", range(1, 26, 3))
async def test_trailers_may_come_late_and_in_pieces(make_stage: "StageMaker", cut: int) -> None:
    stage = await make_stage(pass_trailers=True)
    client = await stage.connect()
    client.send(WITH_TRAILER[:-cut])
    link = await stage.upstream.link()
    await stage.settle(lambda: b"hello" in link.received)
    client.send(WITH_TRAILER[-cut:])
    await stage.settle(lambda: link.received.endswith(b"X-Sum: 1\r\nx-n: 2\r\n\r\n"))


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Encoding: gzip",
        b"X-Forwarded-For: 6.6.6.6",
        b"Content_Length: 5",
        b"If-None-Match: a",
        b"Via: 1.1 p",
    ],
)
async def test_what_is_no_business_of_a_trailer_is_dropped(
    make_stage: "StageMaker", line: bytes
) -> None:
    stage = await make_stage(pass_trailers=True)
    response = await stage.ask(CHUNKED + b"\r\n5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n")
    assert response.status == 200
    assert line.partition(b":")[0] not in stage.upstream.requests[0].partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Host", b"Cookie"])
async def test_what_frames_or_authenticates_is_refused(
    make_stage: "StageMaker", name: bytes
) -> None:
    stage = await make_stage(pass_trailers=True)
    response = await stage.ask(CHUNKED + b"\r\n5\r\nhello\r\n0\r\n" + name + b": 1\r\n\r\n")
    assert (response.status, response.reason) == (400, "bad-trailer")


async def test_trailers_of_a_response_go_to_who_asks(make_stage: "StageMaker") -> None:
    stage = await make_stage(answering(ANSWER), pass_trailers=True)
    client = await stage.connect()
    client.send(ASKING)
    head = await client.head()
    assert b"\r\ntrailer: X-Sum\r\n" in head
    body = b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert await client.reader.readexactly(len(body)) == body
    asked = stage.upstream.requests[0]
    assert b"\r\nte: trailers\r\nconnection: te\r\n" in asked


@pytest.mark.parametrize(
    ("passing", "request_head"),
    [
        (True, ASKING.replace(b"TE: trailers\r\nConnection: TE\r\n", b"")),
        (True, ASKING.replace(b"TE: trailers", b"TE: gzip, deflate")),
        (False, ASKING),
    ],
    ids=["not asked for", "asked for another", "not allowed"],
)
async def test_trailers_of_a_response_go_to_nobody_else(
    make_stage: "StageMaker", *, passing: bool, request_head: bytes
) -> None:
    stage = await make_stage(answering(ANSWER), pass_trailers=passing)
    client = await stage.connect()
    client.send(request_head)
    assert b"trailer" not in await client.head()
    body = b"2\r\nok\r\n0\r\n\r\n"
    assert await client.reader.readexactly(len(body)) == body
    assert b"te: trailers" not in stage.upstream.requests[0]


async def test_who_asked_once_has_asked_for_one_answer_only(make_stage: "StageMaker") -> None:
    stage = await make_stage(answering(*[ANSWER] * 4), pass_trailers=True)
    client = await stage.connect()
    plain = ASKING.replace(b"TE: trailers\r\nConnection: TE\r\n", b"")
    for head, end in ((ASKING, b"X-Sum: 1"), (plain, b""), (ASKING, b"X-Sum: 1"), (plain, b"")):
        client.send(head)
        await client.head()
        body = b"2\r\nok\r\n0\r\n" + (end and end + b"\r\n") + b"\r\n"
        assert await client.reader.readexactly(len(body)) == body


@pytest.mark.parametrize(
    ("sent", "merged"),
    [
        (b"/a//b", b"/a/b"),
        (b"//a", b"/a"),
        (b"/a////b//", b"/a/b/"),
        (b"/a//../b", b"/b"),
        (b"/a/%2e//b?x=//y", b"/a/b?x=//y"),
        (b"/a/b", b"/a/b"),
    ],
)
async def test_merged_slashes_are_matched_and_forwarded(
    make_stage: "StageMaker", sent: bytes, merged: bytes
) -> None:
    stage = await make_stage(answer_ok, merge_slashes=True)
    backend = to(stage.upstream.port)
    known = merged.partition(b"?")[0].decode()
    stage.serve(route(path=known), **{BACKEND: backend})
    client = await stage.connect()
    head = b"GET " + sent + b" HTTP/1.1\r\nHost: a.example\r\n\r\n"
    # The second comes with lines that are remembered, the third is remembered no more.
    for _ in range(3):
        client.send(head)
        assert (await client.response()).status == 200
    for request in stage.upstream.requests:
        assert request.startswith(b"GET " + merged + b" HTTP/1.1\r\n")


async def test_slashes_stay_as_they_are_unless_told_so(make_stage: "StageMaker") -> None:
    stage = await make_stage()
    stage.serve(route(path="/a/b"), **{BACKEND: to(stage.upstream.port)})
    answer = await stage.ask(b"GET /a//b HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert answer.status == 404
