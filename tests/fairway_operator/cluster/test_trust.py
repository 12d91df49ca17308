"""The two Secrets of the authority, in an API server over real sockets."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fairway_operator.authority import Authority, authority_from_files, credentials_from_files
from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import KubeClient, KubeError
from fairway_operator.kube.paths import secret_path
from fairway_operator.trust import CREDENTIALS_TYPE, Trust

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

CA = secret_path("fairway-system", "fairway-ca")
DATAPLANE = secret_path("fairway-system", "fairway-dataplane-tls")


class Replica:
    def __init__(self, client: KubeClient, config: OperatorConfig, *, leading: bool) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        self.issued = 0
        self.trust = Trust(
            client,
            config,
            leading=lambda: leading,
            on_credentials=self._count,
            now=lambda: self.now,
        )

    def _count(self, _: object) -> None:
        self.issued += 1

    async def look(self, *, after_days: float = 0) -> Authority:
        self.now += timedelta(days=after_days)
        await self.trust.look()
        assert self.trust.authority is not None
        return self.trust.authority


class Replicas:
    """Makes replicas that share an API server."""

    def __init__(self, client: KubeClient, config: OperatorConfig) -> None:
        self._client, self._config = client, config

    def leader(self) -> Replica:
        return Replica(self._client, self._config, leading=True)

    def follower(self) -> Replica:
        return Replica(self._client, self._config, leading=False)


@pytest.fixture
def replicas(client: KubeClient, config: OperatorConfig) -> Replicas:
    return Replicas(client, config)


def files(api: "ApiServer", path: str) -> dict[str, bytes]:
    data = api.objects[path].get("data") or {}
    return {name: base64.b64decode(text) for name, text in data.items()}


async def test_the_leader_makes_both_secrets(api: "ApiServer", replicas: Replicas) -> None:
    authority = await replicas.leader().look()

    assert authority_from_files(files(api, CA)) == authority
    assert credentials_from_files(files(api, DATAPLANE)).trusted == authority.trusted
    assert api.objects[DATAPLANE]["type"] == CREDENTIALS_TYPE
    owner = api.objects[DATAPLANE]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == api.objects[CA]["metadata"]["uid"]


async def test_a_secret_that_the_chart_made_empty_is_filled(
    api: "ApiServer", replicas: Replicas
) -> None:
    api.objects[CA] = {
        "type": "Opaque",
        "metadata": {
            "name": "fairway-ca",
            "uid": "u",
            "resourceVersion": "1",
            "labels": {"a": "b"},
        },
    }

    authority = await replicas.leader().look()

    assert authority_from_files(files(api, CA)) == authority
    assert api.objects[CA]["metadata"]["labels"] == {"a": "b"}


async def test_replicas_that_come_together_agree(api: "ApiServer", replicas: Replicas) -> None:
    five = [replicas.follower() for _ in range(5)]

    authorities = await asyncio.gather(*(each.look() for each in five))

    assert len({authority.trusted for authority in authorities}) == 1
    assert DATAPLANE not in api.objects


async def test_what_exists_is_adopted_and_nothing_is_written_again(
    api: "ApiServer", replicas: Replicas
) -> None:
    first = await replicas.leader().look()
    writes = api.count("PUT", "") + api.count("POST", "")

    later = replicas.leader()
    for _ in range(3):
        assert await later.look() == first

    assert api.count("PUT", "") + api.count("POST", "") == writes
    assert later.issued == 1


async def test_only_the_leader_renews(api: "ApiServer", replicas: Replicas) -> None:
    leader, follower = replicas.leader(), replicas.follower()
    first = await leader.look()
    assert await follower.look() == first

    assert (await follower.look(after_days=244)) == first
    second = await leader.look(after_days=244)
    assert second.successor is not None
    assert await follower.look() == second

    third = await leader.look(after_days=8)
    assert third.signing == second.successor
    assert third.trusted == second.trusted


async def test_certificates_follow_the_authority(api: "ApiServer", replicas: Replicas) -> None:
    leader = replicas.leader()
    await leader.look()
    before = credentials_from_files(files(api, DATAPLANE))
    await leader.look(after_days=10)
    assert credentials_from_files(files(api, DATAPLANE)) == before
    assert leader.issued == 1

    await leader.look(after_days=11)

    assert credentials_from_files(files(api, DATAPLANE)) != before
    assert leader.issued == 2


async def test_a_deleted_authority_comes_back_as_it_was(
    api: "ApiServer", replicas: Replicas
) -> None:
    leader = replicas.leader()
    first = await leader.look()
    del api.objects[CA], api.objects[DATAPLANE]

    assert await leader.look() == first

    assert authority_from_files(files(api, CA)) == first
    assert credentials_from_files(files(api, DATAPLANE)).trusted == first.trusted


async def test_an_authority_that_cannot_be_read_is_not_overwritten(
    api: "ApiServer", replicas: Replicas
) -> None:
    leader = replicas.leader()
    await leader.look()
    broken = {**api.objects[CA]["data"], "tls.key": base64.b64encode(b"oops").decode()}
    api.objects[CA]["data"] = broken

    with pytest.raises(ValueError, match=r"tls\.key is not a private key"):
        await leader.look()

    assert api.objects[CA]["data"] == broken


async def test_a_data_plane_secret_that_cannot_be_read_is_made_anew(
    api: "ApiServer", replicas: Replicas
) -> None:
    leader = replicas.leader()
    authority = await leader.look()
    api.objects[DATAPLANE]["data"] = {"tls.crt": "!"}

    await leader.look()

    assert credentials_from_files(files(api, DATAPLANE)).trusted == authority.trusted


async def test_without_permission_the_reason_is_told(api: "ApiServer", replicas: Replicas) -> None:
    api.denied = {"secrets"}

    with pytest.raises(KubeError, match="secrets is forbidden"):
        await replicas.leader().look()
