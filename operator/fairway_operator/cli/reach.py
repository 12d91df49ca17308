"""
A command line's way to an API server: the kubeconfig that kubectl would take.

The one rule: commands only read. What they may not read is said, and never
guessed.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fairway_operator.kube.client import KubeClient, KubeError, connect

_T = TypeVar("_T")

KUBECONFIG = "~/.kube/config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which API server, and what of it."""

    kubeconfig: str = ""
    """Empty takes ``$KUBECONFIG``, else ``~/.kube/config``, else the pod's service account."""
    context: str = ""
    """Of the kubeconfig; empty is its current one."""
    namespaces: tuple[str, ...] = ()
    """Empty is all, or the default of the command."""


def has_kubeconfig(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether kubectl would find a kubeconfig here."""
    return bool(environ.get("KUBECONFIG")) or Path(KUBECONFIG).expanduser().is_file()


def with_client(reach: Reach, ask: Callable[[KubeClient], Awaitable[_T]]) -> _T | None:
    """Return what ``ask`` finds out; None, and a line on stderr, where nobody can be asked."""
    try:
        return asyncio.run(_ask(reach, ask))
    except KubeError as error:
        status = f" ({error.status})" if error.status else ""
        sys.stderr.write(
            f"fairway: the API server cannot be asked: {error.message}{status}\n"
            "    check --kubeconfig and --context, and whether kubectl get pods works\n"
        )
        return None


async def _ask(reach: Reach, ask: Callable[[KubeClient], Awaitable[_T]]) -> _T:
    client = await connect(_kubeconfig(reach), context=reach.context)
    try:
        return await ask(client)
    finally:
        await client.close()


def _kubeconfig(reach: Reach) -> str:
    if reach.kubeconfig or not has_kubeconfig():
        return reach.kubeconfig
    return os.environ.get("KUBECONFIG") or str(Path(KUBECONFIG).expanduser())
