"""
``fairway dev``: the whole product on one machine, from a folder of manifests.

It is the line of the operator with another source: files instead of watches,
the same Inbox, Reconciler and Publisher, the stream over mutual TLS with an
authority in memory, and the data plane as a child process.
"""

import asyncio
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DevOptions:
    """What was asked for on the command line; port 0 takes a free one."""

    paths: tuple[str, ...]
    http_port: int
    https_port: int
    admin_port: int
    workers: int
    bind: str


def run(options: DevOptions) -> int:
    """Serve until Ctrl-C; return the exit status."""
    from fairway_operator.cli.dev.session import run_session  # noqa: PLC0415 - 0.2 s of imports

    missing = [path for path in options.paths if path != "-" and not Path(path).exists()]
    if missing:
        sys.stderr.write(f"fairway: {missing[0]}: no such file or folder\n")
        return 1
    _allow_many_files()
    return asyncio.run(run_session(options, sys.stdin.buffer))


def _allow_many_files() -> None:
    """Take the open files that we are allowed: a socket for each Service, two per connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
