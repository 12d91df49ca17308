"""
The compiled build, for those who use it on this machine: tests, the benchmark, the gate.

``make compiled`` prints a folder. With it as PYTHONPATH, Python runs the packages of this tree
as a release has them, with their request path compiled; its ``bin/fairway`` does so itself.
The folder's name is a digest of everything that goes into it, so it is made once for a state
of the tree, and nothing stale is ever run.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "compiled"
LOCK = ROOT / "requirements" / "build.txt"

_KEPT = 6
"""Builds that are kept; the gate needs two, and several states of a tree may be in use."""


class NoCompilerError(Exception):
    """This machine cannot compile for Python; the text says what to install."""


def built() -> Path:
    """
    Return the folder of the compiled build of this tree, made if it is not there.

    Raises :class:`NoCompilerError`.
    """
    compiler = _compiler()
    folder = CACHE / _digest(compiler)
    if folder.exists():
        folder.touch()
        return folder
    tools = _tools()
    with tempfile.TemporaryDirectory(prefix="fairway-", dir=CACHE) as name:
        wheels, made = Path(name) / "wheels", Path(name) / "made"
        subprocess.run(
            [
                *(str(tools / "bin" / "hatchling"), "build"),
                *("--target", "wheel", "--directory", str(wheels)),
            ],
            cwd=ROOT,
            env={**os.environ, "FAIRWAY_COMPILED": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        (wheel,) = wheels.iterdir()
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made)
        _write_program(made / "bin" / "fairway", folder)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    _forget_old()
    return folder


def restart() -> None:
    """
    Run this program anew as a release runs, unless it does: with the compiled build.

    Returns only then. Raises :class:`NoCompilerError`.
    """
    folder = str(built())
    if os.environ.get("PYTHONPATH") != folder:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": folder})


def _compiler() -> str:
    """Return what the compilers say they are."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(command[0]) is None:
        raise NoCompilerError(
            f"no C compiler ({command[0]}); on Debian: apt-get install gcc libc6-dev python3-dev"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise NoCompilerError(f"no {header}; on Debian: apt-get install python3-dev")
    try:
        cargo = _said(os.environ.get("CARGO") or "cargo")
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoCompilerError(
            f"no cargo ({error}); 1.85 is needed, on Debian 12: apt-get install cargo-web"
        ) from error
    return f"{_said(*command)} {cargo}"


def _said(*command: str) -> str:
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.partition("\n")[0]


def _digest(compiler: str) -> str:
    content = hashlib.sha256(f"{compiler}\0{sys.version}\0{platform.machine()}\0".encode())
    sources = [ROOT / "hatch_build.py", ROOT / "pyproject.toml", LOCK, Path(__file__)]
    for folder in ("operator", "dataplane"):
        sources += sorted(
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc" and "egg-info" not in path.parent.name
        )
    for path in sources:
        content.update(f"{path.relative_to(ROOT)}\0".encode())
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()[:16]


def _tools() -> Path:
    """Return an environment with what builds wheels, hash by hash as for the image."""
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"tools-{key}"
    done = folder / ".installed"
    if not done.exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [
                *(str(folder / "bin" / "pip"), "install", "--quiet"),
                *("--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)),
            ],
            stdout=sys.stderr,
            check=True,
        )
        done.touch()
    return folder


def _write_program(path: Path, folder: Path) -> None:
    path.parent.mkdir()
    program = Path(sys.executable).parent / "fairway"
    more = "${PYTHONPATH:+:$PYTHONPATH}"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}{more}" exec "{program}" "$@"\n')
    path.chmod(0o755)


def _forget_old() -> None:
    builds = [path for path in CACHE.iterdir() if len(path.name) == 16 and path.is_dir()]
    for path in sorted(builds, key=lambda found: found.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    """Print the folder; 1 without a compiler, but 0 and no folder if it is optional here."""
    parser = argparse.ArgumentParser(prog="make compiled", description=__doc__)
    parser.add_argument(
        "--optional",
        action="store_true",
        help="do without if there is no compiler, unless this is continuous integration (CI)",
    )
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        print(built())
    except NoCompilerError as error:
        print(f"NOT COMPILED: {error}", file=sys.stderr)
        return 0 if options.optional and not os.environ.get("CI") else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
