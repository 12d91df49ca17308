"""
The container image, built by whichever engine the machine has.

The ``Dockerfile`` is an ordinary one. What is peculiar to a machine stays here:
without a registry the base image is made from Debian packages, and a machine's
certificates and pip settings are mounted into the build.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from e2e.cluster import debian
from e2e.cluster.faults import FaultError
from e2e.places import CACHE, ROOT

REPOSITORY = "localhost/fairway"
SUITE = "bookworm"
"""The Debian release of the base image that is made here: the one of the Dockerfile's default."""

_BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_BUILD_PACKAGES = (*_BASE_PACKAGES, "cargo-web", "gcc", "libc6-dev", "python3-dev")
_MACHINE_SETTINGS = ("/etc/ssl/certs", "/etc/pip.conf")
_KEPT = 3
"""Builds that stay in the cache: each is 400 MB, and the same again in buildah's storage."""


def build() -> tuple[str, Path]:
    """Build the image unless its sources are unchanged; return its name and its archive."""
    name = f"{REPOSITORY}:{_key()}"
    archive = CACHE / "images" / f"fairway-{_key()}.tar"
    if archive.exists():
        return name, archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"building {name}", flush=True)
    _build_somehow(name, archive)
    _forget_old(archive.parent)
    print(f"built {name} in {time.monotonic() - started:.0f} s", flush=True)
    return name, archive


def _forget_old(folder: Path) -> None:
    """Remove all but the newest builds."""
    archives = sorted(folder.glob("fairway-*.tar"), key=lambda path: path.stat().st_mtime)
    for archive in archives[:-_KEPT]:
        archive.unlink()


def _build_somehow(name: str, archive: Path) -> None:
    """Build with an engine if there is one and it can; else with buildah."""
    for engine in ("docker", "podman"):
        if not _works(engine):
            continue
        try:
            _build_with_engine(engine, name, archive)
        except FaultError as error:
            # Commonly: no registry can be reached for the base image.
            print(f"{engine} cannot build it, so buildah will:\n{error}", flush=True)
        else:
            return
    _build_with_buildah(name, archive)


def _works(engine: str) -> bool:
    """Whether an engine is installed and its daemon, if it has one, answers."""
    if shutil.which(engine) is None:
        return False
    return subprocess.run((engine, "info"), capture_output=True, check=False).returncode == 0


def _build_with_engine(engine: str, name: str, archive: Path) -> None:
    _run(
        engine,
        "build",
        *_bases(os.environ.get("BASE"), os.environ.get("BUILD_BASE")),
        "--tag",
        name,
        str(ROOT),
    )
    partial = archive.with_suffix(".partial")
    _run(engine, "save", "--output", str(partial), name)
    partial.rename(archive)


def _build_with_buildah(name: str, archive: Path) -> None:
    debian.install(debian.IMAGE)
    base = os.environ.get("BASE") or _base_image(_BASE_PACKAGES)
    build_base = os.environ.get("BUILD_BASE")
    if not build_base and not os.environ.get("BASE"):
        build_base = _base_image(_BUILD_PACKAGES)
    settings = [path for path in _MACHINE_SETTINGS if Path(path).exists()]
    _buildah(
        *("bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers"),
        *(*_bases(base, build_base), "--tag", name),
        *(part for path in settings for part in ("--volume", f"{path}:{path}:ro")),
        str(ROOT),
    )
    _save(name, archive)
    _forget_layers()


def _forget_layers() -> None:
    """Remove older builds from buildah's storage, and the layers that are theirs alone."""
    listed = ("images", "--filter", f"reference={REPOSITORY}", "--format", "{{.Name}}:{{.Tag}}")
    builds = _buildah(*listed).split()  # the newest comes first
    if len(builds) > _KEPT:
        older = ("--filter", "dangling=true", "--filter", f"before={builds[_KEPT - 1]}")
        stages = _buildah("images", "--quiet", *older).split()
        _buildah("rmi", *builds[_KEPT:], *stages)


def _bases(base: str | None, build_base: str | None) -> tuple[str, ...]:
    """Return the arguments of a build; a base that is given alone has to have a compiler."""
    if not base:
        return ()
    return ("--build-arg", f"BASE={base}", "--build-arg", f"BUILD_BASE={build_base or base}")


def _base_image(packages: Sequence[str]) -> str:
    """Return an image of Debian with Python, made once from packages."""
    key = hashlib.sha256(" ".join((SUITE, *packages)).encode()).hexdigest()[:12]
    name = f"localhost/python-base:{key}"
    if name in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return name
    print(f"making a base image from Debian {SUITE} (once)", flush=True)
    root = CACHE / "images" / f"base-{os.getpid()}"
    try:
        _run(
            *("debootstrap", "--variant=minbase", f"--include={','.join(packages)}"),
            *(SUITE, str(root), *_mirror()),
        )
        for rest in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / rest, ignore_errors=True)
        # Not ``buildah add`` of a folder: it would follow the links of /etc.
        layer = root.with_suffix(".tar")
        _run("tar", "--numeric-owner", "-C", str(root), "-cf", str(layer), ".")
        container = _buildah("from", "scratch").strip()
        _buildah("add", container, str(layer), "/")
        _buildah("commit", "--rm", container, name)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".tar").unlink(missing_ok=True)
    return name


def _mirror() -> tuple[str, ...]:
    """Return ``DEBIAN_MIRROR`` if it is set; debootstrap knows one otherwise."""
    mirror = os.environ.get("DEBIAN_MIRROR")
    return (mirror,) if mirror else ()


def _save(name: str, archive: Path) -> None:
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    _buildah("push", name, f"docker-archive:{partial}:{name}")
    partial.rename(archive)


def _buildah(*arguments: str) -> str:
    storage = CACHE / "buildah"
    return _run(
        *("buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")),
        *arguments,
    )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise FaultError(f"{' '.join(command)}\nended with {done.returncode}:\n{said}")
    return done.stdout


def _key() -> str:
    """Return the hash of all that goes into the image."""
    content = hashlib.sha256(json.dumps(_ingredients()).encode())
    for path in _sources(
        ("Dockerfile", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE")
    ):
        content.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode:o}\0".encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


def _ingredients() -> list[object]:
    return [os.environ.get("BASE"), os.environ.get("BUILD_BASE"), SUITE, _BUILD_PACKAGES]


def _sources(files: Sequence[str]) -> Iterable[Path]:
    yield from (ROOT / name for name in files if (ROOT / name).exists())
    for folder in ("operator", "dataplane", "requirements"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
