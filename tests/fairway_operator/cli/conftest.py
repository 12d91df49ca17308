"""A real ``fairway dev`` as a child process, and what one does to it."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"

START_SECONDS = 60.0
"""Generous: the suite may run on a machine that does other things as well."""


class Dev:
    """One running ``fairway dev``; its output is collected line by line."""

    def __init__(self, *arguments: str, stdin: bytes | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from fairway_operator.cli.main import main; main()", "dev",
             "--http-port=0", "--https-port=0", "--admin-port=0", *arguments],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "dumb", "PYTHONWARNINGS": "default"},
        )  # fmt: skip
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.decode().rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, after: int = 0, seconds: float = START_SECONDS) -> str:
        """Return the first line that matches, of those after the given number of lines."""
        until = time.monotonic() + seconds
        with self._grown:
            while True:
                for line in self.lines[after:]:
                    if re.search(pattern, line):
                        return line
                left = until - time.monotonic()
                if left <= 0 or self._ended:
                    raise AssertionError(f"no line matches {pattern!r} in:\n{self.output}")
                self._grown.wait(left)

    def ready(self) -> "Dev":
        self.port = int(
            self.wait_for(r"^curl .*http://127\.0\.0\.1:\d+")
            .rpartition("127.0.0.1:")[2]
            .partition("/")[0]
        )
        return self

    def get(self, host: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request("GET", path, headers={"Host": host, **headers})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def eventually(self, check: Callable[[], bool], seconds: float = START_SECONDS) -> float:
        """Return how long it took until ``check`` held."""
        began = time.monotonic()
        while not check():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"did not come about; output:\n{self.output}")
            time.sleep(0.002)
        return time.monotonic() - began

    def wait(self) -> int:
        """Wait for its end, and until all it said was read; return the exit status."""
        status = self.process.wait(START_SECONDS)
        self._reader.join(START_SECONDS)
        return status

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def start_dev() -> Iterator[Callable[..., Dev]]:
    running: list[Dev] = []

    def start(*arguments: str, stdin: bytes | None = None) -> Dev:
        running.append(Dev(*arguments, stdin=stdin))
        return running[-1]

    yield start
    for dev in running:
        dev.stop()


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with a file of ``golden/``; REWRITE_GOLDEN=1 writes the file instead."""

    def compare(name: str, text: str) -> None:
        file = Path(__file__).parent / "golden" / f"{name}.txt"
        if os.environ.get("REWRITE_GOLDEN"):
            file.write_text(text)
        assert text == file.read_text()

    return compare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the quickstart."""
    folder = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(EXAMPLES / "quickstart", folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Dev]:
    dev = Dev("-f", str(folder))
    try:
        dev.ready()
        dev.wait_for("Ctrl-C ends")
        yield dev
    finally:
        dev.stop()


@pytest.fixture
def live(running: Dev, folder: Path) -> Iterator[Dev]:
    """One ``fairway dev`` for all tests that only edit; what they did is undone after each."""
    yield running
    marker = time.monotonic_ns()
    for file in folder.iterdir():
        if not (EXAMPLES / "quickstart" / file.name).exists():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    shutil.copytree(EXAMPLES / "quickstart", folder, dirs_exist_ok=True)
    shown = ROUTE.replace("NUMBER", str(marker))
    (folder / "marker.yaml").write_text(shown)
    running.eventually(lambda: running.get("marker.localhost", f"/{marker}")[0] == 200)
    # Said before it goes: of what came and went in between, nothing is said.
    running.wait_for(rf"\+ route marker\.localhost /{marker}")
    (folder / "marker.yaml").unlink()
    running.eventually(lambda: running.get("marker.localhost", f"/{marker}")[0] == 404)
    running.wait_for(rf"- route marker\.localhost /{marker}")  # said a moment after it is true


ROUTE = """
apiVersion: fairway.dev/v1alpha1
kind: Route
metadata: {name: marker}
spec:
  hosts: [marker.localhost]
  rules:
    - matches: [{path: {value: /NUMBER}}]
      filters: [{directResponse: {status: 200}}]
"""
