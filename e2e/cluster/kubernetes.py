"""
What a cluster is to the suite, and which one it runs on.

Three kinds, one suite: not one test knows which it runs on. What differs is
here: how a cluster starts and stops, how an image gets in, and how a command
reaches it.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from e2e.cluster.faults import FaultError


class Kubernetes(Protocol):
    """A cluster that the suite can run on."""

    def up(self) -> None:
        """Start it, or do nothing when it runs. Raises FaultError."""

    def down(self) -> None:
        """Stop it and leave nothing behind; do nothing when there is none."""

    def load_image(self, archive: Path, name: str) -> None:
        """Make a ``docker save`` archive known to every node under ``name``."""

    def node_address(self) -> str:
        """Return the address at which NodePorts answer, as seen by ``command``."""

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command that runs ``arguments`` where the cluster can be reached."""

    def environment(self) -> Mapping[str, str]:
        """Return what such a command needs: ``PATH`` with kubectl and helm, ``KUBECONFIG``."""

    def logs(self) -> str:
        """Return where the cluster's own logs are, for a run that failed."""


def choose(name: str) -> Kubernetes:
    """Return the cluster that ``CLUSTER=name`` means. Raises FaultError."""
    # Imported where they are chosen: each asks for other things of the machine.
    match name:
        case "local":
            from e2e.cluster.local import LocalKubernetes  # noqa: PLC0415 - see above

            return LocalKubernetes()
        case "kind":
            from e2e.cluster.kind import KindKubernetes  # noqa: PLC0415 - see above

            return KindKubernetes()
        case "existing":
            from e2e.cluster.existing import ExistingKubernetes  # noqa: PLC0415 - see above

            return ExistingKubernetes()
        case _:
            raise FaultError(f"there is no cluster {name!r}", "CLUSTER is local, kind or existing")


def path_with(*folders: Path) -> str:
    """Return ``PATH`` with folders before it."""
    return os.pathsep.join((*map(str, folders), os.environ.get("PATH", os.defpath)))
