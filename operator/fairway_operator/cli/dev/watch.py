"""
News of files.

News are hints: whoever gets one reads everything again, and does so from time to
time without any, because network file systems and containers do not always
tell. So nothing is lost when a folder cannot be watched; it only takes longer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from watchfiles import awatch

from fairway_operator.cli.manifests.files import STDIN

RESCAN_SECONDS = 2.0

_QUIET_MS = 10
"""A file is often written in two steps; both are one piece of news."""


async def watch(paths: Iterable[str]) -> AsyncIterator[float | None]:
    """Yield when something may have changed: the time (monotonic) of the news, None without."""
    news: asyncio.Queue[float] = asyncio.Queue()
    folders, parents = _watched(paths)
    tasks = [
        asyncio.create_task(_hear(found, news, recursive=recursive))
        for found, recursive in ((folders, True), (parents, False))
        if found
    ]
    try:
        while True:
            try:
                async with asyncio.timeout(RESCAN_SECONDS):
                    heard = await news.get()
            except TimeoutError:
                yield None
                continue
            while not news.empty():
                news.get_nowait()
            yield heard
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hear(paths: set[Path], news: asyncio.Queue[float], *, recursive: bool) -> None:
    stopped = asyncio.Event()
    try:
        async for _ in awatch(
            *paths,
            watch_filter=None,
            debounce=100,
            step=_QUIET_MS,
            stop_event=stopped,
            recursive=recursive,
            ignore_permission_denied=True,
        ):
            news.put_nowait(time.monotonic())
    except OSError:
        return  # too many folders for the kernel: left to the rescans
    finally:
        stopped.set()


def _watched(paths: Iterable[str]) -> tuple[set[Path], set[Path]]:
    """Return folders, and the folders of single files: an editor replaces the file itself."""
    folders, parents = set(), set()
    for path in paths:
        if path == STDIN:
            continue
        found = Path(path)
        if found.is_dir():
            folders.add(found)
        else:
            parents.add(found.parent)
    return folders, parents
