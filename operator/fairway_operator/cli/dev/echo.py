"""
The built-in backend: answers with its own name and the request as it arrived.

Each port of a Service without endpoints gets a server of its own on the
loopback, so that what the data plane does (connect, pool, balance) is what it
does with any backend. A WebSocket is echoed message by message.
"""

import asyncio
import json
from dataclasses import asdict, dataclass

from aiohttp import WSMsgType, web

SHOWN_BODY_BYTES = 64 * 1024
"""Of a longer body only this much is sent back; all of it is read and counted."""

NAME_HEADER = "x-echo-backend"

_HEAD_LIMIT_BYTES = 128 * 1024
_KEEPALIVE_SECONDS = 3600.0
"""Longer than the data plane keeps an idle connection: the backend is never the one to end it."""


class EchoServers:
    """
    One echo server for each name.

    They stay until the end: requests to a Service that is gone may be on their way.
    """

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}
        self._running: list[tuple[asyncio.Server, web.Server]] = []

    async def port(self, name: str) -> int:
        """Return the port where ``namespace/service:port`` answers, started if need be."""
        if name not in self._ports:
            self._ports[name] = await self._start(name)
        return self._ports[name]

    async def stop(self) -> None:
        """End all servers."""
        for listening, _ in self._running:
            listening.close()
        await asyncio.gather(*(server.shutdown(timeout=0.2) for _, server in self._running))

    async def _start(self, name: str) -> int:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await _answer(request, name)

        server = web.Server(
            answer,
            access_log=None,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            max_line_size=_HEAD_LIMIT_BYTES,
            max_field_size=_HEAD_LIMIT_BYTES,
        )
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(server, "127.0.0.1", 0, backlog=1024)
        self._running.append((listening, server))
        port: int = listening.sockets[0].getsockname()[1]
        return port


async def _answer(request: web.BaseRequest, name: str) -> web.StreamResponse:
    if request.headers.get("upgrade", "").lower() == "websocket":
        return await _converse(request, name)
    seen = await _receive(request, name)
    as_json = "application/json" in request.headers.get("accept", "")
    return web.Response(
        body=(seen.json() if as_json else seen.text()).encode("utf-8", "surrogateescape"),
        content_type="application/json" if as_json else "text/plain",
        charset="utf-8",
        headers={NAME_HEADER: name},
    )


async def _converse(request: web.BaseRequest, name: str) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    socket.headers[NAME_HEADER] = name
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def _receive(request: web.BaseRequest, name: str) -> "_Seen":
    shown, size = bytearray(), 0
    async for part in request.content.iter_any():
        size += len(part)
        shown += part[: SHOWN_BODY_BYTES - len(shown)]
    return _Seen(
        backend=name,
        method=request.method,
        target=request.raw_path,
        version=f"HTTP/{request.version.major}.{request.version.minor}",
        headers=[
            (key.decode("latin-1"), value.decode("latin-1")) for key, value in request.raw_headers
        ],
        body=shown.decode("utf-8", "replace"),
        body_bytes=size,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The request as it arrived."""

    backend: str
    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: str
    body_bytes: int

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    def text(self) -> str:
        lines = [f"{self.backend} has received:", ""]
        lines.append(f"{self.method} {self.target} {self.version}")
        lines += [f"{key}: {value}" for key, value in self.headers]
        if self.body_bytes:
            lines += ["", self.body]
        if self.body_bytes > SHOWN_BODY_BYTES:
            lines.append(f"... {self.body_bytes} bytes in all")
        return "\n".join(lines) + "\n"
