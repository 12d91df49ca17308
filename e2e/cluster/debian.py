"""Debian packages of the local cluster: looked for, and installed when missing."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from e2e.cluster.faults import MissingError

NODE: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""What a node runs, and the package it comes from."""

IMAGE: Mapping[str, str] = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""What builds an image without a container engine."""


def install(wanted: Mapping[str, str]) -> None:
    """Install the packages of the commands that are missing. Raises MissingError."""
    missing = _missing(wanted)
    if not missing:
        return
    packages = sorted({wanted[command] for command in missing})
    advice = f"apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingError(f"not installed: {', '.join(missing)}", f"as root: {advice}")
    print(f"installing {', '.join(packages)}", flush=True)
    for step in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        done = subprocess.run(
            ("apt-get", "--quiet", *step),
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MissingError(f"apt-get {step[0]} failed:\n{done.stdout}{done.stderr}", advice)
    still = _missing(wanted)
    if still:
        raise MissingError(f"still not there after {advice}: {', '.join(still)}")


def _missing(commands: Iterable[str]) -> list[str]:
    return [
        command
        for command in commands
        if not (Path(command).exists() if command.startswith("/") else shutil.which(command))
    ]
