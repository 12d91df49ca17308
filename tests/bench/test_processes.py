"""What a program of the benchmark starts ends with it, however it is ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"

BEGIN = """
import asyncio, subprocess, sys, time
import uvloop
from bench import processes

def child():
    return processes.alive(subprocess.Popen(("sleep", "600"), start_new_session=True), 5.0)

async def asked():
    with child() as process:
        print(process.pid, flush=True)
        await asyncio.sleep(600)
    return 0

def busy():
    with child() as process:
        print(process.pid, flush=True)
        while True:
            pass

def waiting():
    with child() as process:
        print(process.pid, flush=True)
        subprocess.run(("sleep", "600"), check=True)
"""

PROGRAMS = {
    "busy": "processes.run(busy)",
    "waiting for a child": "processes.run(waiting)",
    "asyncio": "processes.run(lambda: asyncio.run(asked()))",
    "uvloop": "processes.run(lambda: uvloop.run(asked()))",
}


@pytest.mark.parametrize(
    ("name", "ending"),
    [*((name, signal.SIGTERM) for name in PROGRAMS), ("busy", signal.SIGHUP)],
)
def test_what_it_started_ends_with_a_program_that_is_terminated(
    name: str, ending: signal.Signals
) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", BEGIN + PROGRAMS[name]),
        cwd=BENCH.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        os.kill(child, 0)
        program.send_signal(ending)
        assert program.wait(60) == 128 + ending
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_every_program_that_starts_others_is_run_so() -> None:
    programs = {
        path.stem: text for path in BENCH.glob("*.py") if "__main__" in (text := path.read_text())
    }
    starting = {name for name, text in programs.items() if "processes.run(main)" in text}
    # These two start nothing that stays: a compiler, and nothing at all.
    assert set(programs) - starting == {"compiled", "publish"}
