"""A cluster that is there already: the current context of the caller's kubeconfig."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.cluster import programs
from e2e.cluster.faults import FaultError
from e2e.cluster.kubernetes import path_with


class ExistingKubernetes:
    """
    Somebody's cluster; the suite makes and removes its own namespaces in it.

    ``IMAGE`` names an image that its nodes can pull or already have, and
    ``NODE_ADDRESS`` an address for NodePorts where the nodes' own cannot be
    reached.
    """

    def up(self) -> None:
        """Check that it answers. Raises FaultError."""
        done = self._kubectl("version", "--output=json")
        print(f"using the cluster with version {done['serverVersion']['gitVersion']}", flush=True)

    def down(self) -> None:
        """Leave it as it is."""

    def load_image(self, archive: Path, name: str) -> None:
        """Refuse: only its owner knows how an image gets in."""
        raise FaultError(
            f"{name} cannot be loaded into a cluster that is not ours",
            "push it where the nodes can pull it, and write IMAGE=name",
        )

    def node_address(self) -> str:
        """Return ``NODE_ADDRESS``, or an address of the first node."""
        given = os.environ.get("NODE_ADDRESS")
        if given:
            return given
        nodes = self._kubectl("get", "nodes", "--output=json")["items"]
        addresses = {entry["type"]: entry["address"] for entry in nodes[0]["status"]["addresses"]}
        return str(addresses.get("ExternalIP") or addresses["InternalIP"])

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command as it is."""
        return [str(argument) for argument in arguments]

    def environment(self) -> Mapping[str, str]:
        """Return a ``PATH`` with helm and kubectl, which are built when they are missing."""
        return {"PATH": path_with(*client_folders())}

    def logs(self) -> str:
        """Return whom to ask: its components are not ours to read."""
        return "with the owner of the cluster"

    def _kubectl(self, *arguments: str) -> Any:
        done = subprocess.run(
            ("kubectl", *arguments),
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise FaultError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)


def client_folders() -> tuple[Path, ...]:
    """Return the folders of the clients that PATH lacks."""
    clients = {"helm": programs.TOOLS, "kubectl": programs.KUBERNETES}
    return tuple(
        programs.build(module) for client, module in clients.items() if not shutil.which(client)
    )
