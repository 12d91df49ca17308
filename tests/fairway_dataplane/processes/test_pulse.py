"""The sign of life that a supervisor asks of its workers."""

import asyncio
import os
import signal
import threading
import time

import pytest

from fairway_dataplane import crew
from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.ports import bind_pairs
from tests.fairway_dataplane.processes.conftest import LIMIT_SECONDS


async def test_a_supervisor_that_stood_still_blames_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a machine that was frozen: what it waited for is there, and its wait is over."""
    monkeypatch.setattr(crew, "PULSE_SECONDS", 0.05)
    config = DataplaneConfig(bind_address="127.0.0.1", operators=("127.0.0.1:1",))
    pairs = bind_pairs("127.0.0.1", http_port=0, https_port=0, count=1)
    workers = crew.Crew(config, pairs, lambda _tally: None)
    workers.start()
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not workers.serving:  # noqa: ASYNC110 - a crew has no event for it
                await asyncio.sleep(0.01)
        # Longer than the pulses below may be late, and not so long as we stand still.
        monkeypatch.setattr(crew, "PULSE_LIMIT_SECONDS", 2.0)
        monkeypatch.setattr(crew, "LAST_PULSE_SECONDS", LIMIT_SECONDS)
        (worker,) = await workers.describe(LIMIT_SECONDS)
        pid = worker["pid"]
        assert isinstance(pid, int)

        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.2)  # several pulses: one of them waits now
        answering = threading.Timer(0.1, os.kill, (pid, signal.SIGCONT))
        answering.start()
        time.sleep(2.5)  # noqa: ASYNC251 - this is the standstill
        answering.join()
        await asyncio.sleep(0.3)

        (worker,) = await workers.describe(LIMIT_SECONDS)
        assert worker["pid"] == pid
    finally:
        await workers.drain(0.1)
