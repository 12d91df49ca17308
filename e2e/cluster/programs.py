"""
The programs that the suite needs and that no package brings: built from Go modules.

Each module's ``go.mod`` and ``go.sum`` name every byte that goes in, so the
result is kept under the hash of its sources and is never built twice.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from time import monotonic

from e2e.cluster.faults import MissingError
from e2e.places import CACHE

SOURCES = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class GoModule:
    """A folder with a ``go.mod``, and the programs that come out of it."""

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    version_of: str
    """The module whose version the programs report; without one clients refuse the API server."""
    version_in: str
    """Where they keep it: a package with ``variables`` to set at link time."""
    aliases: tuple[str, ...] = ()
    """Further names of the first program, which behaves as it is called."""

    @property
    def folder(self) -> Path:
        """Where its sources are."""
        return SOURCES / self.name

    def linker_flags(self) -> str:
        """Return what the linker writes into the programs."""
        pattern = rf"^\s*(?:require )?{re.escape(self.version_of)} (v(\d+)\.(\d+)\S*)"
        found = re.search(pattern, (self.folder / "go.mod").read_text(), re.MULTILINE)
        assert found is not None, f"{self.folder}/go.mod does not require {self.version_of}"
        version, major, minor = found.groups()
        given = self.version_in.format(version=version, major=major, minor=minor)
        return " ".join(("-s", "-w", *(f"-X {part}" for part in given.split())))


_VERSION = "k8s.io/component-base/version"
KUBERNETES = GoModule(
    name="kubernetes",
    packages=(".",),
    programs=("kubecluster",),
    version_of="k8s.io/kubernetes",
    version_in=(
        f"{_VERSION}.gitVersion={{version}} {_VERSION}.gitMajor={{major}} "
        f"{_VERSION}.gitMinor={{minor}}"
    ),
    aliases=("kubectl",),
)
TOOLS = GoModule(
    name="tools",
    packages=("./coredns", "./pause", "helm.sh/helm/v3/cmd/helm"),
    programs=("coredns", "pause", "helm"),
    version_of="helm.sh/helm/v3",
    version_in="helm.sh/helm/v3/internal/version.version={version}",
)


def build(module: GoModule) -> Path:
    """Return the folder with the module's programs; build them if they are not there yet."""
    folder = CACHE / "programs" / f"{module.name}-{_key(module)}"
    with _only_one(folder):
        if not folder.is_dir():
            _build(module, folder)
    return folder


def _build(module: GoModule, folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise MissingError(
            "go is not installed; the programs of the cluster are built with it",
            "install Go 1.26 or newer (https://go.dev/doc/install) and put it on PATH",
        )
    started = monotonic()
    print(f"building {', '.join(module.programs)} from Go modules (once; minutes)", flush=True)
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        subprocess.run(
            (
                *(go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
                *("-ldflags", module.linker_flags(), "-o", f"{fresh}/", *module.packages),
            ),
            cwd=module.folder,
            env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"},
            check=True,
        )
        if len(module.programs) == 1:
            (built,) = fresh.iterdir()
            built.rename(fresh / module.programs[0])
        for alias in module.aliases:
            (fresh / alias).symlink_to(module.programs[0])
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    print(f"built {', '.join(module.programs)} in {monotonic() - started:.0f} s", flush=True)


def _key(module: GoModule) -> str:
    content = hashlib.sha256()
    for path in sorted(module.folder.rglob("*")):
        if path.is_file():
            content.update(f"{path.relative_to(module.folder)}\0".encode())
            content.update(path.read_bytes())
    content.update(module.linker_flags().encode())
    return content.hexdigest()[:16]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield
