"""
Who writes: leader election on a Lease.

The state machine is that of ``kubernetes.aio.leaderelection``; the lock is our
own, for four reasons. The stock one counts no transitions (our epochs), writes
local time as if it were UTC, lets a broken connection end the election, and
never gives the Lease back.

The one rule: :attr:`Lease.leading` is true only while our own last renewal is
younger than the renew deadline by the monotonic clock, and no one else was
seen to hold the Lease since. So neither a wrong wall clock nor a hanging
request makes two leaders for longer than from one renewal to the next.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import lease_path

log = structlog.get_logger(__name__)

RELEASE_SECONDS = 2.0
"""Longest wait for the answer when the Lease is given back; it runs out by itself."""

ADDRESS = "fairway.dev/stream-address"
"""Annotation of the Lease: where the leader takes the receipts of other replicas."""

Found = tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]


class Lease:
    """This replica's view of the Lease."""

    def __init__(
        self,
        client: KubeClient,
        config: OperatorConfig,
        *,
        address: Callable[[], str] = lambda: "",
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        ``address`` returns where other replicas reach this one, once that is known.

        ``on_change`` is called when the holder, its address or the epoch has changed, and when
        we lead again after we could not renew: whatever waited for that was not told of the lapse.
        """
        self.identity = config.instance
        self.holder = ""
        """Who was last seen to hold the Lease; empty when nobody does."""
        self.holder_address = ""
        """Where the holder is reached by other replicas, as it says itself."""
        self.epoch = 0
        """How often the Lease has changed hands, as last seen; never goes back."""
        self._client = client
        self._config = config
        self._path = lease_path(config.namespace, config.lease_name)
        self._address = address
        self._on_change = on_change
        self._clock = clock
        self._renewed_at = float("-inf")
        self._object: Body = {}

    def __repr__(self) -> str:
        """Say who leads."""
        return f"Lease(holder={self.holder!r}, epoch={self.epoch}, leading={self.leading})"

    @property
    def leading(self) -> bool:
        """Whether this replica may write now."""
        recent = self._clock() - self._renewed_at < self._config.lease_renew_seconds
        return self.holder == self.identity and recent

    async def observe(self) -> None:
        """Read the Lease once, so that the epoch is known before anything is published."""
        await self.read()

    async def run(self) -> None:
        """Take part in the election until cancelled; then give the Lease back."""
        try:
            while True:
                await LeaderElection(self._election()).run()
                log.warning("leadership_lost", holder=self.holder, epoch=self.epoch)
        finally:
            if self.holder == self.identity:
                await self.release()

    async def read(self) -> Found:
        """Read the Lease, in the words of the election."""
        try:
            self._object = await self._client.get(self._path)
        except KubeError as error:
            return False, _exception(error)
        self._note()
        spec = self._object.get("spec") or {}
        if not spec.get("holderIdentity"):
            return True, None
        return True, LeaderElectionRecord(
            spec["holderIdentity"],
            str(spec.get("leaseDurationSeconds", "")),
            str(spec.get("acquireTime", "")),
            str(spec.get("renewTime", "")),
        )

    async def create(self) -> bool:
        """Make the Lease, ours; False when someone else was quicker."""
        body: Body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._config.lease_name,
                "namespace": self._config.namespace,
                "annotations": {ADDRESS: self._address()},
            },
            "spec": self._spec({}),
        }
        started_at = self._clock()
        try:
            self._object = await self._client.create(lease_path(self._config.namespace), body)
        except KubeError as error:
            log.warning("lease_not_created", status=error.status, message=error.message)
            return False
        self._won(started_at)
        return True

    async def update(self) -> bool:
        """Take or renew the Lease; False when it has changed since it was read."""
        spec = self._object.get("spec") or {}
        metadata = self._object.get("metadata") or {}
        annotations = {**(metadata.get("annotations") or {}), ADDRESS: self._address()}
        body: Body = {
            **self._object,
            "metadata": {**metadata, "annotations": annotations},
            "spec": self._spec(spec),
        }
        started_at = self._clock()
        try:
            self._object = await self._client.replace(self._path, body)
        except KubeError as error:
            log.warning("lease_not_renewed", status=error.status, message=error.message)
            return False
        self._won(started_at)
        return True

    async def release(self) -> None:
        """Give the Lease back, so that another replica need not wait for it to run out."""
        self._renewed_at = float("-inf")
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                try:
                    await self._empty()
                except KubeError as error:
                    if error.status != HTTPStatus.CONFLICT:
                        raise
                    # A renewal that was given up on its way may have arrived after all.
                    await self.read()
                    if self.holder == self.identity:
                        await self._empty()
        except KubeError as error:
            log.warning("lease_not_released", status=error.status, message=error.message)
        except TimeoutError:
            log.warning("lease_not_released", status=0, message="no answer")

    async def _empty(self) -> None:
        """Write into the Lease as it was last seen that nobody holds it."""
        spec = {**(self._object.get("spec") or {}), "holderIdentity": "", "leaseDurationSeconds": 1}
        await self._client.replace(self._path, {**self._object, "spec": spec})

    def _won(self, started_at: float) -> None:
        before = self.leading
        self._renewed_at = started_at
        self._note(leads_anew=self.leading != before)

    def _note(self, *, leads_anew: bool = False) -> None:
        """Take over what the Lease says, and tell of what is new."""
        spec = self._object.get("spec") or {}
        metadata = self._object.get("metadata") or {}
        holder = spec.get("holderIdentity") or ""
        address = (metadata.get("annotations") or {}).get(ADDRESS, "")
        epoch = max(self.epoch, int(spec.get("leaseTransitions") or 0))
        same = (holder, address, epoch) == (self.holder, self.holder_address, self.epoch)
        if same and not leads_anew:
            return
        self.holder, self.holder_address, self.epoch = holder, address, epoch
        event = "leadership_regained" if same else "lease_holder_changed"
        log.info(event, holder=holder, epoch=epoch)
        self._on_change()

    def _spec(self, old: Body) -> Body:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = old.get("holderIdentity") == self.identity
        transitions = int(old.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._config.lease_seconds),
            "acquireTime": old.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours else transitions + 1,
        }

    def _election(self) -> Config:
        return Config(
            _Lock(self, self._config),
            lease_duration=self._config.lease_seconds,
            renew_deadline=self._config.lease_renew_seconds,
            retry_period=self._config.lease_retry_seconds,
            onstarted_leading=_nothing,
            onstopped_leading=_nothing,
        )


class _Lock(BaseLock):
    """The lock as the election calls it; all of it is the :class:`Lease`'s."""

    def __init__(self, lease: Lease, config: OperatorConfig) -> None:
        super().__init__(config.lease_name, config.namespace, lease.identity)
        self._lease = lease

    async def get(self, name: str, namespace: str) -> Found:  # noqa: ARG002 - the base's signature
        return await self._lease.read()

    async def create(self, name: str, namespace: str, election_record: object) -> bool:  # noqa: ARG002
        return await self._lease.create()

    async def update(self, name: str, namespace: str, updated_record: object) -> bool:  # noqa: ARG002
        return await self._lease.update()


async def _nothing() -> None:
    """Satisfy the election, which wants to start a task; ours ask ``leading``."""


def _exception(error: KubeError) -> ApiException:
    exception = ApiException(status=error.status, reason=error.message)
    # The election reads the code from the body to tell "no such Lease" from trouble.
    missing = error.status == HTTPStatus.NOT_FOUND
    exception.body = '{"code": 404}' if missing else None
    return exception
