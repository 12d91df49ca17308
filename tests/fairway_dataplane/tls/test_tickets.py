"""Session tickets: who resumes which, and for how long."""

import ssl

import pytest

from fairway_dataplane.tls.contexts import BuiltContexts, build_contexts
from fairway_dataplane.tls.contexts import no_contexts as no_contexts_in
from fairway_dataplane.tls.tickets import PERIOD_SECONDS, TicketKeys, TicketSecret, new_ticket_keys
from fairway_snapshot.diff import Change
from tests.fairway_dataplane.tls.conftest import (
    FALLBACK,
    SHOP,
    Client,
    Server,
    certificate,
    certificates,
    server_names,
    trusting,
)

NAMES = server_names({"shop.example": "shop"})


def serve(server: Server, tickets: TicketKeys, *changes: Change) -> None:
    """Serve as another worker with these keys would."""
    place = BuiltContexts(tickets, lambda *_: None)
    known = no_contexts_in(FALLBACK, place, strict=False)
    server.current.swap(build_contexts(known, changes or [*certificates(shop=SHOP), *NAMES]))


async def session(server: Server, context: ssl.SSLContext) -> ssl.SSLSession:
    """Connect once and return what the client may resume."""
    client = await Client.connect(server.port, "shop.example", context=context)
    await client.fill()
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.read(1)
    found = client.tls.session
    assert found is not None
    client.close()
    return found


async def resumes(server: Server, context: ssl.SSLContext, found: ssl.SSLSession) -> bool:
    client = await Client.connect(server.port, "shop.example", context=context, session=found)
    client.close()
    return bool(client.tls.session_reused)


def told(tickets: TicketKeys) -> TicketKeys:
    """Return the keys as another worker has them."""
    return TicketKeys(tickets.told(0.0))


async def test_a_session_is_resumed_by_any_worker_of_the_data_plane(server: Server) -> None:
    context, tickets = trusting(), new_ticket_keys()
    serve(server, told(tickets))
    found = await session(server, context)

    serve(server, told(tickets))
    assert await resumes(server, context, found)
    serve(server, new_ticket_keys())
    assert not await resumes(server, context, found)


async def test_a_session_is_resumed_after_its_context_had_to_make_room(server: Server) -> None:
    context, tickets = trusting(), new_ticket_keys()
    place = BuiltContexts(tickets, lambda *_: None, limit=1)
    made = build_contexts(
        no_contexts_in(FALLBACK, place, strict=False), [*certificates(shop=SHOP), *NAMES]
    )
    server.current.swap(made)
    found = await session(server, context)
    first = made.choose(b"shop.example")
    made.choose(b"other.example")

    assert await resumes(server, context, found)
    assert made.choose(b"shop.example") is not first


async def test_a_rotated_certificate_ends_its_sessions(server: Server) -> None:
    context, tickets = trusting(), new_ticket_keys()
    serve(server, tickets)
    found = await session(server, context)

    serve(server, tickets, *certificates(shop=certificate("shop.example")), *NAMES)
    assert not await resumes(server, context, found)


async def test_keys_are_turned_and_those_before_are_of_no_use(server: Server) -> None:
    context, tickets = trusting(), new_ticket_keys()
    serve(server, tickets)
    found = await session(server, context)

    tickets.expire(tickets.deadline)
    assert not await resumes(server, context, found)
    found = await session(server, context)
    assert await resumes(server, context, found)


def test_workers_turn_their_keys_at_the_same_time_without_being_told() -> None:
    supervisor = TicketKeys(TicketSecret(secret=b"s" * 32, period=7))
    early = TicketKeys(supervisor.told(7 * PERIOD_SECONDS))
    late = TicketKeys(supervisor.told(9.5 * PERIOD_SECONDS))
    before = early.key(b"chain")
    early.expire(9.5 * PERIOD_SECONDS)

    assert early.period == late.period == 9
    assert early.key(b"chain") == late.key(b"chain") != before
    assert early.key(b"chain") != early.key(b"another")
    assert early.deadline == 10 * PERIOD_SECONDS


def test_a_secret_is_not_shown() -> None:
    assert repr(TicketSecret(secret=b"hidden", period=3)) == "<TicketSecret period=3>"
