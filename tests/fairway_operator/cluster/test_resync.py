"""Lists against an API server over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fairway_operator.config import OperatorConfig
from fairway_operator.inbox import Inbox, WatchEvent
from fairway_operator.kube.client import KubeClient
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resync import ListState, Resync
from tests.fairway_operator.cluster.conftest import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def resync(client: KubeClient, inbox: Inbox, config: OperatorConfig) -> Resync:
    return Resync(client, inbox, config)


def service(name: str) -> ObjectRef:
    return ObjectRef(Kind.SERVICE, "default", name)


def told(inbox: Inbox) -> dict[str, bool]:
    """Return the names in the inbox, and whether each is gone."""
    return {event.ref.name: event.deleted for event in inbox.drain().events}


async def test_a_list_puts_every_object_of_every_page(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.page_size = 3
    for number in range(10):
        api.put(Kind.SERVICE, f"s{number}")

    assert await resync.list_now(Kind.SERVICE)

    assert len(told(inbox)) == 10
    assert resync.kinds[Kind.SERVICE].state is ListState.COMPLETE


async def test_a_second_list_tells_only_what_changed(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    for name in ("a", "b", "c"):
        api.put(Kind.SERVICE, name)
    await resync.list_now(Kind.SERVICE)
    inbox.drain()
    api.put(Kind.SERVICE, "b", spec={"type": "ClusterIP"})
    api.delete(Kind.SERVICE, "c")

    await resync.list_now(Kind.SERVICE)

    assert told(inbox) == {"b": False, "c": True}


async def test_items_of_a_list_are_told_with_their_kind(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.put(Kind.ENDPOINT_SLICE, "a")

    await resync.list_now(Kind.ENDPOINT_SLICE)

    body = inbox.drain().events[0].body
    assert (body["apiVersion"], body["kind"]) == ("discovery.k8s.io/v1", "EndpointSlice")


async def test_what_the_watch_knows_better_stays(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.put(Kind.SERVICE, "old")
    newer = {"metadata": {"namespace": "default", "name": "new", "resourceVersion": "9999999"}}
    api.after_list = lambda: inbox.put(WatchEvent(Kind.SERVICE, deleted=False, body=newer))

    await resync.list_now(Kind.SERVICE)

    assert told(inbox) == {"old": False, "new": False}
    assert service("new") in inbox.known(Kind.SERVICE)


async def test_what_the_watch_saw_go_does_not_come_back(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    version = api.put(Kind.SERVICE, "a")["metadata"]["resourceVersion"]
    gone = {"namespace": "default", "name": "a", "resourceVersion": str(int(version) + 1)}
    inbox.put(
        WatchEvent(
            Kind.SERVICE, deleted=False, body={"metadata": {**gone, "resourceVersion": version}}
        )
    )
    api.after_list = lambda: inbox.put(
        WatchEvent(Kind.SERVICE, deleted=True, body={"metadata": gone})
    )

    await resync.list_now(Kind.SERVICE)

    assert told(inbox) == {"a": True}


async def test_a_history_that_went_back_is_believed(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.version = 5000
    api.put(Kind.SERVICE, "a", spec={"type": "NodePort"})
    await resync.list_now(Kind.SERVICE)
    inbox.drain()
    api.version = 100  # etcd was restored from a backup
    api.put(Kind.SERVICE, "a", spec={"type": "ClusterIP"})

    await resync.list_now(Kind.SERVICE)

    assert inbox.drain().events[0].body["spec"] == {"type": "ClusterIP"}


async def test_an_empty_list_must_be_confirmed(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    for number in range(6):
        api.put(Kind.SERVICE, f"s{number}")
    await resync.list_now(Kind.SERVICE)
    inbox.drain()
    api.emptied = 1

    await resync.list_now(Kind.SERVICE)

    assert told(inbox) == {}
    assert api.count("GET", "/services") == 3


async def test_a_confirmed_empty_list_is_believed(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    for number in range(6):
        api.put(Kind.SERVICE, f"s{number}")
    await resync.list_now(Kind.SERVICE)
    inbox.drain()
    api.emptied = 2

    await resync.list_now(Kind.SERVICE)

    assert set(told(inbox).values()) == {True}


async def test_a_handful_may_go_without_a_second_look(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.put(Kind.SERVICE, "only")
    await resync.list_now(Kind.SERVICE)
    inbox.drain()
    api.delete(Kind.SERVICE, "only")

    await resync.list_now(Kind.SERVICE)

    assert told(inbox) == {"only": True}


async def test_a_denied_kind_keeps_what_was_known(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.put(Kind.SECRET, "tls", type="kubernetes.io/tls")
    api.put(Kind.SERVICE, "web")
    await resync.list_now(Kind.SECRET)
    inbox.drain()
    api.denied = {"secrets"}

    assert not await resync.list_now(Kind.SECRET)
    assert await resync.list_now(Kind.SERVICE)

    assert told(inbox) == {"web": False}
    assert resync.kinds[Kind.SECRET].state is ListState.DENIED
    assert len(inbox.known(Kind.SECRET)) == 1


async def test_a_kind_that_the_cluster_does_not_know_has_no_objects(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    assert await resync.list_now(Kind.REFERENCE_GRANT)

    assert resync.kinds[Kind.REFERENCE_GRANT].state is ListState.ABSENT


async def test_only_tls_secrets_are_asked_for(
    api: "ApiServer", inbox: Inbox, resync: Resync
) -> None:
    api.put(Kind.SECRET, "tls", type="kubernetes.io/tls")
    api.put(Kind.SECRET, "password", type="Opaque")

    await resync.list_now(Kind.SECRET)

    assert told(inbox) == {"tls": False}


async def test_namespaces_and_labels_limit_what_is_listed(
    api: "ApiServer", client: KubeClient, inbox: Inbox, config: OperatorConfig
) -> None:
    labels = {"labels": {"team": "shop"}}
    api.put(Kind.INGRESS, "ours", namespace="shop", metadata=labels)
    api.put(Kind.INGRESS, "unlabelled", namespace="shop")
    api.put(Kind.INGRESS, "elsewhere", namespace="other", metadata=labels)
    limited = replace(config, watch_namespaces=("shop",), watch_labels="team=shop")

    await Resync(client, inbox, limited).list_now(Kind.INGRESS)

    assert told(inbox) == {"ours": False}


async def test_the_first_compilation_waits_for_every_kind(
    api: "ApiServer", resync: Resync, eventually: Callable[..., Awaitable[None]]
) -> None:
    api.denied = {"secrets"}
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(resync.run(kind)) for kind in Kind]
        complete = group.create_task(resync.complete())
        await eventually(lambda: resync.kinds[Kind.SECRET].state is ListState.DENIED)
        assert not complete.done()

        api.denied.clear()
        await asyncio.wait_for(complete, timeout=PATIENCE_SECONDS)
        for task in running:
            task.cancel()
