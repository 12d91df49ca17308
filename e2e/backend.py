"""
What stands behind the proxy in these tests; runs in pods, from a ConfigMap.

Answers every request with its own name and with the request as it arrived.
``ENDING`` says how it ends (see :class:`e2e.objects.Ending`): as a good server
does, which finishes what it has begun, or as the others do. Needs nothing but
the standard library.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
import time

_SIOCSIFFLAGS = 0x8914
"""netdevice(7)."""

_SILENCE_SECONDS = 2.0
"""Longer than it takes to take an endpoint out of every data plane."""


async def serve() -> None:
    """Serve until SIGTERM."""
    stopping = asyncio.Event()
    end = {"at-once": _end_at_once, "silent": _fall_silent}.get(os.environ["ENDING"], stopping.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    connections: set[asyncio.Task[None]] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await answer_all(reader, writer, stopping)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has gone; there is nobody to tell
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(on_connection, "0.0.0.0", 8000)
    await stopping.wait()
    server.close()
    if connections:
        await asyncio.wait(connections, timeout=10)


async def answer_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stopping: asyncio.Event
) -> None:
    """Answer the requests of one connection."""
    while not stopping.is_set():
        head_read = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({head_read, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not head_read.done():
            head_read.cancel()
            return
        request, *lines = head_read.result().decode("latin-1").split("\r\n")[:-2]
        headers = [line.split(": ", 1) for line in lines]
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        length = int(lengths[0]) if lengths else 0
        await reader.readexactly(length)
        body = json.dumps(
            {
                "pod": socket.gethostname(),
                "app": os.environ.get("APP", ""),
                "version": os.environ.get("VERSION", ""),
                "request": request,
                "headers": headers,
            }
        ).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()


def _end_at_once() -> None:
    os._exit(0)


def _fall_silent() -> None:
    """Vanish from the network with every connection, as with a node that lost its power."""
    for _, interface in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
    time.sleep(_SILENCE_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve())
