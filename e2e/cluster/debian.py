"""Debian packages: those of the local cluster, and what a scenario takes out of one."""

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
    _apt_get("update", advice=advice)
    _apt_get("install", "--yes", "--no-install-recommends", *packages, advice=advice)
    still = _missing(wanted)
    if still:
        raise MissingError(f"still not there after {advice}: {', '.join(still)}")


def unpack(package: str, folder: Path) -> None:
    """Download a package and unpack it below a folder, installing nothing. Raises MissingError."""
    advice = f"apt-get update; only Debian has the right {package}"
    if shutil.which("apt-get") is None:
        raise MissingError(f"no {package}: no apt-get", advice)
    if os.geteuid() == 0:
        _apt_get("update", advice=advice)
    # It would fetch as a user of its own, who may not write here.
    _apt_get("--option=APT::Sandbox::User=root", "download", package, advice=advice, folder=folder)
    (archive,) = folder.glob("*.deb")
    subprocess.run(("dpkg-deb", "--extract", str(archive), str(folder)), check=True)


def _apt_get(*arguments: str, advice: str, folder: Path | None = None) -> None:
    done = subprocess.run(
        ("apt-get", "--quiet", "--option=Acquire::Retries=3", *arguments),
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        command = f"apt-get {' '.join(arguments)}"
        raise MissingError(f"{command} failed:\n{done.stdout}{done.stderr}", advice)


def _missing(commands: Iterable[str]) -> list[str]:
    return [
        command
        for command in commands
        if not (Path(command).exists() if command.startswith("/") else shutil.which(command))
    ]
