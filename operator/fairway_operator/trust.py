"""
The authority in the cluster: two Secrets, kept in step with the clock.

``<release>-ca`` holds the authority and is read by operators alone;
``<release>-dataplane-tls`` holds what data-plane pods mount. Every replica reads
the first and issues its own server certificate from it, in memory; only the
leader changes either. Whoever comes first creates what is missing, and a
resourceVersion in each write decides between two who came together.

The one rule: an authority that exists is adopted and never replaced by another
one, because the data planes that trust it could not follow.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import structlog

from fairway_operator.authority import (
    OPERATOR_NAME,
    Authority,
    Credentials,
    Lifetimes,
    Role,
    authority_from_files,
    create_authority,
    credentials_from_files,
)
from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import secret_path

log = structlog.get_logger(__name__)

LOOK_SECONDS = 30.0
"""Between two looks at the Secrets."""

CREDENTIALS_TYPE = "fairway.dev/credentials"
"""Not kubernetes.io/tls: no Ingress may ever serve this certificate."""


class Trust:
    """Keeps the two Secrets and this replica's own certificate."""

    def __init__(
        self,
        client: KubeClient,
        config: OperatorConfig,
        *,
        leading: Callable[[], bool],
        on_credentials: Callable[[Credentials], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``on_credentials`` is told of each new certificate of this replica."""
        self.authority: Authority | None = None
        self.credentials: Credentials | None = None
        self.ready = asyncio.Event()
        """Set once this replica has a certificate."""
        self.lifetimes = Lifetimes(
            authority=timedelta(days=config.authority_days),
            overlap=timedelta(days=config.authority_overlap_days),
            certificate=timedelta(days=config.certificate_days),
        )
        self._client = client
        self._config = config
        self._leading = leading
        self._on_credentials = on_credentials
        self._now = now
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now, for instance because we have become the leader."""
        self._woken.set()

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            seconds = LOOK_SECONDS
            try:
                await self.look()
            except KubeError as error:
                log.warning("authority_not_kept", status=error.status, message=error.message)
                seconds = 1.0
            except ValueError as error:
                # Nothing is overwritten: whoever changed the Secret may still have the old one.
                log.warning(
                    "authority_unreadable", secret=self._config.authority_secret, reason=str(error)
                )
            self._woken.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """
        Adopt, create or renew, once.

        Raises KubeError, and ValueError for a Secret that holds no authority.
        """
        owner = await self._keep_authority()
        assert self.authority is not None
        self._keep_own_credentials(self.authority)
        if self._leading():
            await self._keep_dataplane_credentials(self.authority, owner)

    async def _keep_authority(self) -> Body:
        """Adopt the authority in its Secret, or put one there; return the Secret."""
        now = self._now()
        secret = await self._read(self._config.authority_secret)
        files = _files(secret)
        if not files:
            # A Secret that was deleted comes back with the authority that is in use.
            self.authority = self.authority or create_authority(now=now, lifetimes=self.lifetimes)
            return await self._adopt_or_write(secret, self.authority)
        self.authority = authority_from_files(files)
        renewed = self.authority.renewed(now=now, lifetimes=self.lifetimes)
        if renewed != self.authority and self._leading():
            secret = await self._adopt_or_write(secret, renewed)
            log.info("authority_renewed", successor=renewed.successor is not None)
        return secret

    async def _adopt_or_write(self, secret: Body, authority: Authority) -> Body:
        name = self._config.authority_secret
        try:
            written = await self._write(secret, name, authority.to_files(), {"type": "Opaque"})
        except KubeError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            # Another replica was quicker; what it wrote is the authority.
            written = await self._read(name)
            authority = authority_from_files(_files(written))
        self.authority = authority
        return written

    def _keep_own_credentials(self, authority: Authority) -> None:
        now = self._now()
        if self.credentials is None or self.credentials.is_due(authority, now=now):
            config = self._config
            names = dict.fromkeys((OPERATOR_NAME, *config.publish_names, *config.webhook_names))
            if self._config.instance_address:
                names[self._config.instance_address] = None
            self.credentials = authority.issue(
                Role.OPERATOR, tuple(names), now=now, lifetimes=self.lifetimes
            )
            self._on_credentials(self.credentials)
            self.ready.set()
            log.info("operator_certificate_issued")

    async def _keep_dataplane_credentials(self, authority: Authority, owner: Body) -> None:
        name = self._config.dataplane_secret
        secret = await self._read(name)
        now = self._now()
        try:
            if not credentials_from_files(_files(secret)).is_due(authority, now=now):
                return
        except ValueError:
            log.info("dataplane_certificate_missing", secret=name)
        credentials = authority.issue(Role.DATAPLANE, now=now, lifetimes=self.lifetimes)
        reference = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": self._config.authority_secret,
            "uid": owner["metadata"]["uid"],
        }
        try:
            await self._write(
                secret,
                name,
                credentials.to_files(),
                {"type": CREDENTIALS_TYPE, "ownerReferences": [reference]},
            )
        except KubeError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            self.wake()
            return
        log.info("dataplane_certificate_issued", secret=name)

    async def _read(self, name: str) -> Body:
        """Return the Secret; empty when there is none."""
        try:
            return await self._client.get(secret_path(self._config.namespace, name))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return {}
            raise

    async def _write(self, secret: Body, name: str, files: dict[str, bytes], new: Body) -> Body:
        """Replace the Secret as it was read, or create it; 409 when somebody else did."""
        data = {key: base64.b64encode(value).decode() for key, value in files.items()}
        if secret:
            return await self._client.replace(
                secret_path(self._config.namespace, name), {**secret, "data": data}
            )
        metadata: Body = {
            "name": name,
            "namespace": self._config.namespace,
            "labels": {"app.kubernetes.io/managed-by": "fairway-operator"},
        }
        if "ownerReferences" in new:
            # Goes when the release goes, which owns the authority's Secret.
            metadata["ownerReferences"] = new["ownerReferences"]
        return await self._client.create(
            secret_path(self._config.namespace),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": new["type"],
                "metadata": metadata,
                "data": data,
            },
        )


def _files(secret: Body) -> dict[str, bytes]:
    try:
        return {
            name: base64.b64decode(text, validate=True)
            for name, text in (secret.get("data") or {}).items()
        }
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
