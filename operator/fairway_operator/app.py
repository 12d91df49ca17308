"""
The operator as a program: builds the objects, and owns the tasks.

Every long-lived task is started here, in one TaskGroup; nothing else starts a
task that outlives its own call. The order at start is the order of trust: first
hear of everything, then compile, then listen, then be ready. A replica that has
not heard of every object publishes nothing at all, so it cannot take away what
data planes serve.
"""

import asyncio
import os
import signal
import time
from typing import NoReturn

import structlog

from fairway_operator.addresses import Addresses
from fairway_operator.admin import AdminServer
from fairway_operator.admission.registration import Registration
from fairway_operator.admission.review import AdmissionRequest, Verdict, review
from fairway_operator.admission.server import AdmissionServer
from fairway_operator.authority import Credentials
from fairway_operator.compiler import Compiler, CompilerSettings
from fairway_operator.config import OperatorConfig, split_address
from fairway_operator.handlers import Watch, WatchHooks
from fairway_operator.inbox import Batch, Inbox, WatchEvent
from fairway_operator.kube.client import KubeClient, KubeError, connect
from fairway_operator.kube.lease import Lease
from fairway_operator.kube.writer import KubeWriter
from fairway_operator.labels import parse_selector
from fairway_operator.logs import configure_logs
from fairway_operator.metrics import OperatorMetrics, Parts
from fairway_operator.outbox import Bucket, Outbox
from fairway_operator.publisher import Publisher
from fairway_operator.reconciler import Reconciler, Surroundings
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.relay import Receipt, Relay
from fairway_operator.resync import ListState, Resync
from fairway_operator.trust import Trust
from fairway_snapshot.digest import short

log = structlog.get_logger(__name__)

LEAVE_SECONDS = 3.0
"""Longest wait for tasks that libraries have left behind."""

REVIEW_SECONDS = 0.1
"""Receipts that come within this time make one new plan."""


async def run_operator(config: OperatorConfig) -> int:
    """Run until SIGTERM or SIGINT; return the exit status: 0, or 1 after an error."""
    configure_logs(config.log_level)
    try:
        client = await connect(config.kubeconfig)
    except KubeError as error:
        log.error("no_cluster", reason=error.message)  # noqa: TRY400 - no traceback for a setting
        return 1
    try:
        status = await Operator(config, client).run()
    finally:
        await client.close()
    await _leave(status)
    return status


async def _leave(status: int) -> None:
    """End what is left of the loop's tasks, or the process when they do not end."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        _, pending = await asyncio.wait(rest, timeout=LEAVE_SECONDS)
        if pending:
            # kopf can swallow a cancellation, and a pod that does not end is not replaced.
            log.warning("tasks_left", tasks=sorted(task.get_name() for task in pending))
            os._exit(status)


class Operator:
    """One replica."""

    def __init__(self, config: OperatorConfig, client: KubeClient) -> None:
        self.admin_port = 0
        self._config = config
        self._client = client
        self._stop = asyncio.Event()
        self._review_due = asyncio.Event()
        self._inbox = Inbox(
            settle_seconds=config.settle_seconds,
            settle_limit_seconds=config.settle_limit_seconds,
        )
        self._resync = Resync(client, self._inbox, config, on_state=self._on_list_state)
        hooks = WatchHooks(client.access, self._resync.request, self._claim_signals)
        self._watches = {kind: Watch(kind, self._inbox, config, hooks) for kind in Kind}
        self._lease = Lease(
            client, config, address=self._own_address, on_change=self._on_lease_change
        )
        self._trust = Trust(
            client, config, leading=self._is_leading, on_credentials=self._on_credentials
        )
        self._addresses = Addresses(client, config, on_change=self._review_due.set)
        self._outbox = Outbox(
            KubeWriter(client, config, seen=self._seen_version),
            bucket=Bucket(config.outbox_rate, config.outbox_burst),
            leading=self._is_leading,
        )
        self._publisher = Publisher(
            max_subscribers=config.max_subscribers,
            on_receipt=self._on_receipt,
            on_own_receipt=self._on_own_receipt,
        )
        self._relay = Relay(leader=self._address_of_leader, present=self._publisher.receipts)
        self._leading_since = float("inf")
        self._compiler = Compiler(
            CompilerSettings(
                controller_name=config.controller_name,
                watch_without_class=config.watch_without_class,
                allow_external_names=config.allow_external_names,
                default_certificate=config.default_certificate_secret,
            )
        )
        self._reconciler = Reconciler(
            self._compiler,
            self._publisher,
            Surroundings(
                effects=self._outbox,
                writes=self._may_plan,
                epoch=lambda: max(1, self._lease.epoch),
                addresses=self._addresses.current,
                field_manager=config.field_manager,
            ),
        )
        parts = Parts(
            inbox=self._inbox,
            reconciler=self._reconciler,
            publisher=self._publisher,
            outbox=self._outbox,
            lease=self._lease,
            resync=self._resync,
            watch_restarts=lambda: {kind: watch.failures for kind, watch in self._watches.items()},
            watch_lists=lambda: {kind: watch.lists for kind, watch in self._watches.items()},
        )
        self._metrics = OperatorMetrics(parts, clock=time.monotonic)
        self._admin = AdminServer(parts, self._metrics, waiting_for=self._waiting_for)
        self._selector = parse_selector(config.watch_labels)
        self._webhook = AdmissionServer(self._judge, observe=self._metrics.reviewed)
        self._registration = Registration(
            client,
            config.webhook_configuration,
            trusted=lambda: self._trust.authority.trusted if self._trust.authority else b"",
            leading=self._is_leading,
        )

    @property
    def stream_port(self) -> int:
        """Where data planes subscribe; 0 until they can."""
        return self._publisher.port

    @property
    def webhook_port(self) -> int:
        """Where the API server may ask; 0 until it can."""
        return self._webhook.port

    async def run(self) -> int:
        """Run until told to stop; return the exit status."""
        self._claim_signals()
        self.admin_port = await self._admin.start(*split_address(self._config.admin_address))
        status = 0
        try:
            async with asyncio.TaskGroup() as group:
                tasks = self._start(group)
                await self._stop.wait()
                log.info("stopping")
                await self._publisher.stop(grace_seconds=self._config.drain_seconds)
                for task in tasks:
                    task.cancel()
        except* Exception as group_error:
            for error in group_error.exceptions:
                log.exception("operator_failed", exc_info=error)
            status = 1
        finally:
            await self._publisher.stop(grace_seconds=0)
            await self._webhook.stop()
            await self._admin.stop()
        log.info("stopped", status=status)
        return status

    def stop(self) -> None:
        """End :meth:`run` in good order."""
        self._stop.set()

    def _start(self, group: asyncio.TaskGroup) -> list["asyncio.Task[None]"]:
        running = {
            "lease": self._lease.run(),
            "trust": self._trust.run(),
            "addresses": self._addresses.run(),
            "outbox": self._outbox.work(),
            "review": self._review(),
            "relay": self._relay.run(),
            "registration": self._registration.run(),
            "reconcile": self._reconcile(),
            **{f"watch {kind}": watch.run() for kind, watch in self._watches.items()},
            **{f"list {kind}": self._resync.run(kind) for kind in Kind},
        }
        return [group.create_task(task, name=name) for name, task in running.items()]

    async def _reconcile(self) -> NoReturn:
        """Work the straight line: events in, snapshots out."""
        await self._resync.complete()
        self._apply(self._inbox.drain())
        await self._trust.ready.wait()
        await self._publisher.start(*split_address(self._config.publish_address))
        if self._config.webhook_address:
            # Not before the World is complete: until then every class is somebody else's.
            await self._webhook.start(*split_address(self._config.webhook_address))
        log.info("ready", objects=sum(len(self._inbox.known(kind)) for kind in Kind))
        while True:
            self._apply(await self._inbox.take())

    def _apply(self, batch: Batch) -> None:
        commit = self._reconciler.apply(batch)
        self._metrics.compile_seconds.observe(commit.compile_seconds)
        if commit.published:
            instances = {each.instance for each in self._publisher.subscribers()}
            self._metrics.propagation.published(commit, instances)
            log.info(
                "published",
                digest=short(commit.compilation.snapshot.root),
                epoch=commit.position.epoch,
                sequence=commit.position.sequence,
                events=len(batch.events),
                compile_ms=round(commit.compile_seconds * 1000, 2),
            )

    async def _review(self) -> NoReturn:
        """Make status of receipts, many at a time."""
        while True:
            await self._review_due.wait()
            early = self._leading_since + self._report_seconds() - time.monotonic()
            await asyncio.sleep(max(REVIEW_SECONDS, early if self._is_leading() else 0.0))
            self._review_due.clear()
            self._reconciler.review()

    def _judge(self, request: AdmissionRequest) -> Verdict:
        return review(
            request,
            self._compiler,
            namespaces=self._config.watch_namespaces,
            selector=self._selector,
        )

    def _on_receipt(self, receipt: Receipt) -> None:
        if receipt.root is None:
            self._reconciler.left(receipt.instance)
        elif receipt.reason:
            self._reconciler.refused(receipt.instance, receipt.root, receipt.reason)
        else:
            self._reconciler.acked(receipt.instance, receipt.root)
        self._review_due.set()

    def _on_own_receipt(self, receipt: Receipt) -> None:
        self._relay.add(receipt)
        if receipt.root is None:
            self._metrics.propagation.left(receipt.instance)
        elif not receipt.reason:
            self._metrics.propagation.acked(receipt.instance, receipt.root)

    def _on_credentials(self, credentials: Credentials) -> None:
        self._publisher.renew_credentials(credentials)
        self._relay.use(credentials)
        if self._config.webhook_address:
            self._webhook.use(credentials)
        self._registration.wake()

    def _on_list_state(self, kind: Kind, state: ListState) -> None:
        readable = self._watches[kind].readable
        if state in (ListState.ABSENT, ListState.DENIED):
            readable.clear()
        else:
            readable.set()
        if kind is Kind.INGRESS_CLASS and state is ListState.DENIED:
            self._assume_class()

    def _assume_class(self) -> None:
        """Take a class for ours where we are limited to namespaces, unless it was ever read."""
        event = _assumed_class(self._config)
        known = self._inbox.known(Kind.INGRESS_CLASS)
        if self._config.watch_namespaces and event.ref not in known:
            log.info("class_assumed", name=self._config.assumed_class)
            self._inbox.put(event)

    def _on_lease_change(self) -> None:
        self._relay.leader_changed()
        if self._lease.leading:
            self._leading_since = min(self._leading_since, time.monotonic())
            self._trust.wake()
            self._registration.wake()
            self._review_due.set()
        else:
            self._leading_since = float("inf")
            self._outbox.clear()

    def _is_leading(self) -> bool:
        return self._lease.leading

    def _may_plan(self) -> bool:
        """Say whether we lead, and have led long enough to have heard of all data planes."""
        heard = time.monotonic() - self._leading_since >= self._report_seconds()
        return self._is_leading() and heard

    def _report_seconds(self) -> float:
        """Return the time in which followers find a new leader and report to it."""
        return self._config.lease_retry_seconds * 1.5

    def _own_address(self) -> str:
        address, port = self._config.instance_address, self._publisher.port
        if not address or not port:
            return ""
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def _address_of_leader(self) -> str:
        return "" if self._lease.holder == self._lease.identity else self._lease.holder_address

    def _seen_version(self, ref: ObjectRef) -> int:
        """Return the resourceVersion that the World has of an object; 0 while it is behind."""
        if self._inbox.is_pending(ref):
            return 0
        return self._inbox.known(ref.kind).get(ref, 0)

    def _waiting_for(self) -> list[str]:
        """Return what is missing before this replica is ready."""
        missing = [
            f"a list of {kind}: {status.message or 'not answered yet'}"
            for kind, status in self._resync.kinds.items()
            if not status.settled.is_set()
        ]
        if not self._trust.ready.is_set():
            missing.append(f"the authority in Secret {self._config.authority_secret}")
        if not missing and not self._publisher.port:
            missing.append("the stream to listen")
        if not missing and self._config.webhook_address and not self._webhook.port:
            missing.append("the webhook to listen")
        return missing

    def _claim_signals(self) -> None:
        """Take SIGTERM and SIGINT, also after kopf has taken them."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)


def _assumed_class(config: OperatorConfig) -> WatchEvent:
    """Return the IngressClass that we serve where none may be read."""
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": Kind.INGRESS_CLASS.value,
        "metadata": {"name": config.assumed_class},
        "spec": {"controller": config.controller_name},
    }
    return WatchEvent(Kind.INGRESS_CLASS, deleted=False, body=body)
