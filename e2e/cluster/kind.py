"""A cluster of kind: a node is a container of the machine's container engine."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.existing import client_folders
from e2e.cluster.faults import FaultError, MissingError
from e2e.cluster.kubernetes import path_with
from e2e.places import CACHE, ROOT

NAME = "fairway-e2e"
KUBECONFIG = CACHE / "kind" / "kubeconfig"
"""A file of its own: the caller's current context stays what it is."""


class KindKubernetes:
    """
    ``KIND_CONFIG`` names the file (default ``e2e/kind.yaml``), ``KIND_IMAGE`` the node image.

    A file of the caller's has to map the container ports 30080 and 30443 to the
    same host ports, as ours does: traffic enters there.
    """

    def up(self) -> None:
        """Start it, or do nothing when it runs. Raises FaultError."""
        if shutil.which("kind") is None:
            raise MissingError("kind is not on PATH", "see https://kind.sigs.k8s.io")
        if NAME in _kind("get", "clusters").split():
            KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
            _kind("export", "kubeconfig", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}")
            print("the cluster is up already", flush=True)
            return
        KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        config = os.environ.get("KIND_CONFIG") or ROOT / "e2e" / "kind.yaml"
        image = os.environ.get("KIND_IMAGE")
        _kind(
            *("create", "cluster", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}"),
            *(f"--config={config}", "--wait=180s"),
            *((f"--image={image}",) if image else ()),
        )

    def down(self) -> None:
        """Delete it; do nothing when there is none."""
        if shutil.which("kind") is None:
            return
        _kind("delete", "cluster", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}")
        shutil.rmtree(KUBECONFIG.parent, ignore_errors=True)

    def load_image(self, archive: Path, name: str) -> None:
        """Make a ``docker save`` archive known to every node."""
        _kind("load", "image-archive", str(archive), f"--name={NAME}")

    def node_address(self) -> str:
        """Return this machine: the NodePorts are mapped to its own."""
        return os.environ.get("NODE_ADDRESS") or "127.0.0.1"

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command as it is."""
        return [str(argument) for argument in arguments]

    def environment(self) -> Mapping[str, str]:
        """Return the cluster's kubeconfig and a ``PATH`` with helm and kubectl."""
        return {"PATH": path_with(*client_folders()), "KUBECONFIG": str(KUBECONFIG)}

    def logs(self) -> str:
        """Return the command that collects them."""
        return f"in what this writes: kind export logs --name={NAME}"


def _kind(*arguments: str) -> str:
    done = subprocess.run(("kind", *arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FaultError(f"kind {' '.join(arguments)}:\n{done.stderr.strip()}")
    return done.stdout
