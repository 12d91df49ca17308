"""
The stream from the operator: one call that is kept up, whatever happens to it.

A data plane lives longer than its operators, its certificates and the network
between them, so nothing that happens here reaches the traffic: a stream that
fails is logged, waited out with jittered backoff, and opened again with the
root that is already held, so that only what is missing is sent.

Both sides show a certificate. The files are looked at every few seconds, and
new ones open a new call; old ones that still work are never given up for files
that do not.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias, cast

import grpc
import grpc.aio
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fairway_dataplane.config import DataplaneConfig
from fairway_snapshot.protocol import (
    METHOD,
    Ack,
    CommitRefused,
    Message,
    Nack,
    Offer,
    ProtocolError,
    SubscriberSession,
    decode,
    encode,
)

CONNECT_LIMIT_SECONDS = 5.0
SHORTEST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 3.0
"""No change goes live sooner after an operator is back."""
STEADY_SECONDS = 10.0
"""A stream that lasted as long was no failure when it ends."""
WATCH_FILES_SECONDS = 2.0
EXPIRY_WARNING = timedelta(hours=1)

_OPTIONS = (
    # Of the pod's environment nothing may decide where keys travel.
    ("grpc.enable_http_proxy", 0),
    # A new call with new credentials must be a new connection.
    ("grpc.use_local_subchannel_pool", 1),
    # A peer that vanished without a word is noticed in half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 << 20),
)

_EOF = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it

_log = structlog.get_logger("fairway.stream")

_Call: TypeAlias = "grpc.aio.StreamStreamCall[Message, Message]"


class CredentialsError(Exception):
    """The stream's files cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, slots=True, repr=False)
class StreamCredentials:
    """What this data plane shows to the operator, and whom it trusts; all PEM."""

    certificate: bytes
    key: bytes
    authority: bytes

    def expires(self) -> datetime:
        """Return the end of the certificate's life."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc

    def channel(self) -> grpc.ChannelCredentials:
        """Return them as grpc wants them."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


def read_credentials(config: DataplaneConfig) -> StreamCredentials:
    """Read the three files and check that they fit together. Raises CredentialsError."""
    found = StreamCredentials(
        certificate=_read(config.stream_certificate),
        key=_read(config.stream_key),
        authority=_read(config.stream_authority),
    )
    try:
        certificate = x509.load_pem_x509_certificate(found.certificate)
    except ValueError as error:
        raise CredentialsError(f"{config.stream_certificate}: no certificate in PEM") from error
    try:
        key = serialization.load_pem_private_key(found.key, password=None)
    except (ValueError, TypeError) as error:
        raise CredentialsError(f"{config.stream_key}: no unencrypted key in PEM") from error
    if key.public_key() != certificate.public_key():
        raise CredentialsError(f"{config.stream_key}: not the key of {config.stream_certificate}")
    try:
        x509.load_pem_x509_certificates(found.authority)
    except ValueError as error:
        raise CredentialsError(f"{config.stream_authority}: no certificate in PEM") from error
    return found


class Subscriber:
    """Keeps one call to one of the operators, and offers what comes over it."""

    def __init__(
        self,
        config: DataplaneConfig,
        session: SubscriberSession,
        apply: Callable[[Offer], Awaitable[str | None]],
        refused: Callable[[str], None],
    ) -> None:
        """
        Subscribe on behalf of ``session``.

        ``apply`` has an offer served and returns why it is refused, or None;
        ``refused`` is told of what was refused before it became an offer.
        """
        self.peer = ""
        """The operator that we are connected to; empty while there is none."""
        self.trouble = "not connected yet"
        """Why there is none."""
        self._config = config
        self._session = session
        self._apply = apply
        self._refused = refused
        self._credentials: StreamCredentials | None = None

    async def run(self) -> None:
        """Subscribe until cancelled."""
        failures = 0
        while True:
            address = self._config.operators[failures % len(self._config.operators)]
            began = time.monotonic()
            try:
                credentials = await self._usable_credentials()
                await self._converse(address, credentials)
            except (CredentialsError, ProtocolError, grpc.aio.AioRpcError, TimeoutError) as error:
                self._note_trouble(address, _reason(error))
            except Exception as error:  # noqa: BLE001 - the call is the smallest part to restart
                _log.exception("stream_bug", operator=address)
                self._note_trouble(address, type(error).__name__)
            lasted = time.monotonic() - began
            failures = 0 if lasted > STEADY_SECONDS else failures + 1
            self.peer = ""
            await asyncio.sleep(_backoff(failures))

    def _note_trouble(self, address: str, reason: str) -> None:
        if reason != self.trouble or self.peer:
            event = "stream_lost" if self.peer else "stream_failed"
            _log.warning(event, operator=address, reason=reason)
        self.trouble = reason

    async def _converse(self, address: str, credentials: StreamCredentials) -> None:
        """Hold one call until it fails or until there are newer credentials."""
        name = ("grpc.ssl_target_name_override", self._config.stream_server_name)
        async with grpc.aio.secure_channel(
            address, credentials.channel(), options=(*_OPTIONS, name)
        ) as channel:
            async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
                await _settled(channel)
            call: _Call = channel.stream_stream(
                METHOD, request_serializer=encode, response_deserializer=decode
            )(None)
            await call.write(self._session.hello())
            self.peer = address
            self.trouble = ""
            _log.info("stream_up", operator=address)
            newer = asyncio.create_task(self._newer_credentials(credentials))
            try:
                await self._listen(call, address, newer)
            finally:
                newer.cancel()
                call.cancel()

    async def _listen(self, call: _Call, address: str, newer: "asyncio.Task[None]") -> None:
        while True:
            reading = asyncio.ensure_future(call.read())
            await asyncio.wait({reading, newer}, return_when=asyncio.FIRST_COMPLETED)
            if newer.done() and not reading.done():
                reading.cancel()
                _log.info("stream_credentials_changed", operator=address)
                return
            message = await reading
            if message is _EOF:
                raise ProtocolError("the operator ended the call")
            await self._take(call, cast("Message", message))

    async def _take(self, call: _Call, message: Message) -> None:
        try:
            offer = self._session.receive(message)
        except CommitRefused as error:
            self._refused(error.reason)
            await _answer(call, error.nack)
            return
        if offer is None:
            return
        refusal = await self._apply(offer)
        if refusal is None:
            await _answer(call, self._session.accept(offer))
        else:
            await _answer(call, self._session.refuse(offer, refusal))

    async def _usable_credentials(self) -> StreamCredentials:
        """Return what the files hold, or what they held when they were last good."""
        try:
            self._credentials = await asyncio.to_thread(read_credentials, self._config)
        except CredentialsError:
            if self._credentials is None:
                raise
            _log.warning("stream_credentials_unusable", exc_info=True)
        return self._credentials

    async def _newer_credentials(self, current: StreamCredentials) -> None:
        """Return once the files hold other credentials, which can be used."""
        trouble = ""
        while True:
            await asyncio.sleep(WATCH_FILES_SECONDS)
            try:
                found = await asyncio.to_thread(read_credentials, self._config)
            except CredentialsError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    _log.warning("stream_credentials_unusable", reason=trouble)
                continue
            if found != current:
                return
            if not trouble and current.expires() - datetime.now(UTC) < EXPIRY_WARNING:
                trouble = "expires soon"
                _log.warning("stream_certificate_expires", at=current.expires().isoformat())


async def _answer(call: _Call, answer: Ack | Nack) -> None:
    try:
        await call.write(answer)
    except asyncio.InvalidStateError as error:
        # So grpc says that the call has ended meanwhile; a snapshot may take seconds to build.
        raise ProtocolError("the operator went before it was answered") from error


async def _settled(channel: grpc.aio.Channel) -> None:
    """Wait until the channel is connected, or has failed to: a call then says why at once."""
    state = channel.get_state(try_to_connect=True)
    while state not in (
        grpc.ChannelConnectivity.READY,
        grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    ):
        await channel.wait_for_state_change(state)
        state = channel.get_state()


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower()}: {error.details()}"
    if isinstance(error, TimeoutError) and not str(error):
        return "cannot connect"
    return str(error)


def _backoff(failures: int) -> float:
    """Return seconds to wait after so many failures in a row; jittered, so that a fleet spreads."""
    longest = min(LONGEST_BACKOFF_SECONDS, SHORTEST_BACKOFF_SECONDS * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialsError(f"{path}: {(error.strerror or 'unreadable').lower()}") from error
