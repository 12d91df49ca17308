"""
A clock that is wrong for one process: Debian's libfaketime, preloaded.

It travels in a ConfigMap, so it reaches the nodes of every cluster and needs no
privilege. The monotonic clock stays right, as it does on a node whose wall
clock is wrong.
"""

import base64
import shutil
import tempfile
from pathlib import Path

from e2e.cluster import debian
from e2e.kubectl import Body
from e2e.places import CACHE

PACKAGE = "libfaketime"
LIBRARY = "libfaketime.so.1"
MOUNT = "/faketime"
_KEPT = CACHE / PACKAGE / LIBRARY


def fetch() -> None:
    """
    Download the library, or do nothing when it is kept from before.

    Called before the scenarios: they run in the cluster's network namespace,
    from which no registry is reached. Raises MissingError.
    """
    if _KEPT.exists():
        return
    _KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        debian.unpack(PACKAGE, Path(folder))
        (library,) = Path(folder).rglob(LIBRARY)
        partial = _KEPT.with_suffix(".partial")
        shutil.copyfile(library, partial)
        partial.rename(_KEPT)


def config_map() -> Body:
    """Return the ConfigMap that holds the library, which was fetched before."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PACKAGE},
        "binaryData": {LIBRARY: base64.b64encode(_KEPT.read_bytes()).decode()},
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
