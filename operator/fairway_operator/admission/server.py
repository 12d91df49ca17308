"""
The webhook's port: one address, one method, one small body in and out.

Every replica answers, leader or not. A review takes as long as its object
does to compile and nothing waits in between, so the body's limit is also the
limit of time. Any pod can ask, so reviews come one after the other and rest
for as long as they took: half of the loop is left to what is served, however
many ask.

The one rule: whatever comes in, nothing but an AdmissionReview or a short
sentence goes out.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog
from aiohttp import web

from fairway_operator.admission.review import (
    AdmissionRequest,
    BadReviewError,
    Verdict,
    decode_review,
    encode_answer,
)
from fairway_operator.authority import Credentials
from fairway_operator.ports import listen

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1024 * 1024
READ_SECONDS = 5.0
"""Whoever has not sent the body by then has been given up by the API server, too."""
MAX_AT_ONCE = 32
"""Bodies in memory at one time; API servers are few, and any pod can come this far."""


class AdmissionServer:
    """Answers reviews over TLS."""

    def __init__(
        self,
        judge: Callable[[AdmissionRequest], Verdict],
        *,
        observe: Callable[[str, str, float], None],
    ) -> None:
        """``observe`` is told of each answer: kind, verdict, and seconds."""
        self.port = 0
        """Where it listens; 0 until it does."""
        self._judge = judge
        self._observe = observe
        self._tls: ssl.SSLContext | None = None
        self._runner: web.AppRunner | None = None
        self._present = 0
        self._turn = asyncio.Lock()
        self._rested_at = 0.0
        """When the next review may begin, by the monotonic clock."""

    def use(self, credentials: Credentials) -> None:
        """Show this certificate from now on; established connections go on."""
        self._tls = _tls(credentials)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises OSError when it is taken."""
        if self._tls is None:
            raise RuntimeError("a webhook without a certificate cannot start")
        listening = self._tls
        listening.sni_callback = self._choose
        app = web.Application(client_max_size=MAX_BODY_BYTES + 1)
        app.add_routes([web.post("/validate", self._validate)])
        # Bodies stay as they came: a small one could unpack to a large one.
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        site = web.SockSite(self._runner, listen(host, port), ssl_context=listening)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        log.info("webhook_started", port=self.port)
        return self.port

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        # Called for each handshake, also for one without a server name.
        assert self._tls is not None
        connection.context = self._tls

    async def _validate(self, http: web.Request) -> web.Response:
        if self._present >= MAX_AT_ONCE:
            return _sorry(HTTPStatus.SERVICE_UNAVAILABLE, "too many reviews at once")
        self._present += 1
        try:
            return await self._answer(http)
        finally:
            self._present -= 1

    async def _answer(self, http: web.Request) -> web.Response:
        if http.content_type != "application/json" or "Content-Encoding" in http.headers:
            return _sorry(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json, unpacked")
        if (http.content_length or 0) > MAX_BODY_BYTES:
            return _too_large()
        try:
            async with asyncio.timeout(READ_SECONDS):
                body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            return _too_large()
        except TimeoutError:
            return _sorry(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time")
        async with self._turn:
            await asyncio.sleep(max(0.0, self._rested_at - time.monotonic()))
            began = time.monotonic()
            answer = self._review(body)
            ended = time.monotonic()
            self._rested_at = ended + (ended - began)
            return answer

    def _review(self, body: bytes) -> web.Response:
        started = time.perf_counter()
        try:
            request = decode_review(body)
        except BadReviewError as error:
            self._observe("other", "malformed", time.perf_counter() - started)
            return _sorry(HTTPStatus.BAD_REQUEST, str(error))
        kind = str(request.reviewed_kind or "other")
        try:
            verdict = self._judge(request)
        except Exception:
            # A bug must not come out as an answer: failurePolicy says what becomes of the object.
            log.exception("review_failed", kind=kind)
            self._observe(kind, "failed", time.perf_counter() - started)
            return _sorry(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug of Fairway; its log has more")
        answer = encode_answer(request, verdict)
        self._observe(kind, verdict.word, time.perf_counter() - started)
        return web.Response(body=answer, content_type="application/json")


def _tls(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The ssl module reads files only, and a key belongs into memory.
    with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as file:
        file.write(credentials.chain + credentials.key.reveal())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _too_large() -> web.Response:
    return _sorry(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a review has at most {MAX_BODY_BYTES} bytes"
    )


def _sorry(status: HTTPStatus, sentence: str) -> web.Response:
    return web.Response(status=status, text=f"{sentence}\n")
