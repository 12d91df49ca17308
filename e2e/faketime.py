"""
A clock that is wrong for one process: Debian's libfaketime, preloaded.

It travels in a ConfigMap, so it reaches the nodes of every cluster and needs no
privilege. The monotonic clock stays right, as it does on a node whose wall
clock is wrong.
"""

import base64
import subprocess
import tempfile
from pathlib import Path

from e2e.cluster.faults import MissingError
from e2e.kubectl import Body
from e2e.places import CACHE

PACKAGE = "libfaketime"
LIBRARY = "libfaketime.so.1"
MOUNT = "/faketime"


def config_map() -> Body:
    """Return the ConfigMap that holds the library. Raises MissingError."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PACKAGE},
        "binaryData": {LIBRARY: base64.b64encode(_library()).decode()},
    }


def environment(shift: str) -> list[Body]:
    """Return what shifts the clock of a container, by ``+1h`` for example."""
    values = {
        "LD_PRELOAD": f"{MOUNT}/{LIBRARY}",
        "FAKETIME": shift,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def mount() -> tuple[Body, Body]:
    """Return the volume, and its mount."""
    volume = {"name": PACKAGE, "configMap": {"name": PACKAGE}}
    return volume, {"name": PACKAGE, "mountPath": MOUNT}


def _library() -> bytes:
    kept = CACHE / PACKAGE / LIBRARY
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            kept.write_bytes(_downloaded(Path(folder)))
    return kept.read_bytes()


def _downloaded(folder: Path) -> bytes:
    # apt-get would fetch as a user of its own, who may not write here.
    fetch = ("apt-get", "--quiet", "--option=APT::Sandbox::User=root", "download", PACKAGE)
    try:
        subprocess.run(fetch, cwd=folder, check=True, capture_output=True)
        (package,) = folder.glob("*.deb")
        unpack = ("dpkg-deb", "--extract", str(package), str(folder / "unpacked"))
        subprocess.run(unpack, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingError(f"no {PACKAGE}: {error}", "apt-get update; this needs Debian") from error
    (library,) = (folder / "unpacked").rglob(LIBRARY)
    return library.read_bytes()
