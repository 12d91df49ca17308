"""
The contestants: how each is configured, started and told of a change.

Each gets its recommended fast form: connections to the backend kept alive, no
access log. A contestant is started for one shape of configuration and listens
on one plain and one TLS port. What may change while it runs is :class:`Served`;
each is told of it in its own way.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a contestant is told once."""

    folder: Path
    backend_port: int
    plain_port: int
    tls_port: int
    admin_port: int
    workers: int
    certificate: Path
    key: Path
    programs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Served:
    """What it serves now: these hosts, from a backend with these addresses."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...]


class Contestant(Protocol):
    """One program under test."""

    def configure(self, setting: Setting, served: Served) -> None:
        """Write the configuration."""

    def command(self, setting: Setting) -> Sequence[str]:
        """Return how it is started."""

    def change(self, setting: Setting, before: Served, after: Served, pid: int) -> None:
        """Have the running program serve something else."""


def start(contestant: Contestant, setting: Setting, served: Served) -> subprocess.Popen[bytes]:
    """Start a contestant on the CPU of the proxies; one with more workers has all CPUs."""
    contestant.configure(setting, served)
    cpus = "0" if setting.workers == 1 else f"0-{setting.workers - 1}"
    command = ["taskset", "-c", cpus, *contestant.command(setting)]
    log = (setting.folder / "log").open("wb")
    env = {**os.environ, "GOMAXPROCS": str(setting.workers)}
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=env
    )


def replace(path: Path, content: object) -> None:
    """Write a file as a whole, so that nobody reads half of it; all but text becomes JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.replace(path)
