"""
The data plane as a child process.

It is the program of a data-plane pod, told by the same settings where to
subscribe. Its own log is for operators of clusters; here only what a person
should see of it is passed on.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from fairway_operator.authority import Credentials

STOP_SECONDS = 4.0
"""Drain included; then it is killed."""

_SHOWN_LEVELS = frozenset({"warning", "error", "critical"})


class Machine:
    """One supervisor and its workers; ``say`` gets the lines that people should see."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(
        self, folder: Path, credentials: Credentials, settings: Mapping[str, str]
    ) -> None:
        """
        Start with these ``FAIRWAY__`` settings and none of ours.

        The credentials are written to ``folder``, which is gone when the child is.
        """
        told = {**settings, **_write(folder, credentials)}
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("FAIRWAY__")
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fairway_operator.cli.dev.leash",
            str(os.getpid()),
            str(folder),
            env={**inherited, **told},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C goes to a whole process group; we pass it on once, as SIGTERM.
            process_group=0,
            limit=1 << 20,
        )
        self._reading = asyncio.create_task(self._read(), name="data plane's log")

    async def wait(self) -> int:
        """Return the exit status once the child has ended by itself."""
        assert self._process is not None
        status = await self._process.wait()
        if self._reading is not None:
            await self._reading
        return status

    async def stop(self) -> None:
        """Let it drain, then make sure that it is gone."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                self._say(f"the data plane did not end within {STOP_SECONDS:g} s; it was killed")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:
                continue  # a line beyond the limit; what follows is read again
            if not line:
                return
            shown = _shown(line.decode("utf-8", "replace").rstrip())
            if shown:
                self._say(shown)


def _shown(line: str) -> str:
    """Return what people should see of a line of the log; what is no log line is all shown."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    if entry.get("level") not in _SHOWN_LEVELS:
        return ""
    fields = (f"{key}={value}" for key, value in entry.items() if key not in _UNSHOWN)
    return f"data plane: {entry.get('event', '')} {' '.join(fields)}".rstrip()


_UNSHOWN = frozenset({"event", "level", "timestamp"})


def _write(folder: Path, credentials: Credentials) -> dict[str, str]:
    """Write what the child shows to the operator, for our user only; return its settings."""
    settings = {}
    names = {"tls.crt": "CERTIFICATE", "tls.key": "KEY", "ca.crt": "AUTHORITY"}
    for name, content in credentials.to_files().items():
        path = folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        settings[f"FAIRWAY__STREAM_{names[name]}"] = str(path)
    return settings
