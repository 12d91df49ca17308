"""
The wheel with its request path compiled, where ``FAIRWAY_COMPILED=1`` asks for one.

A module that has a ``.pxd`` beside it becomes an extension module: the ``.py`` stays the one
source, and the ``.pxd`` adds the types of C. TLS towards clients is rustls, which is a crate
beside the packages. Everything happens in a copy of both, so that no extension module ever lies
beside a source that somebody edits and would not see run. Without the variable, and for an
editable installation, the wheel is plain Python.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "dataplane"
"""The source root whose packages have compiled modules."""

DIRECTIVES = {
    "language_level": "3",
    # Types of C come from a .pxd and from nowhere else: what an annotation says is mypy's.
    "annotation_typing": False,
    # An attribute of None is an exception, as it is in Python, and never a crash.
    "nonecheck": True,
}

FLAGS = ("-O2", "-g0")

CRATE = "dataplane/rustls"

CRATE_MODULE = "fairway_dataplane/tls/_rustls.abi3.so"
"""What the crate becomes; by the stable ABI one is good for every Python from 3.11 on."""


class CompilingHook(BuildHookInterface):  # type: ignore[type-arg] # hatchling's own config class
    """Put extension modules into the wheel, beside their sources."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is put together."""
        if version == "editable" or os.environ.get("FAIRWAY_COMPILED") != "1":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="fairway-compiled-"))
        for built in compile_modules(Path(self.root) / SOURCES, self._folder):
            build_data["force_include"][str(built)] = str(built.relative_to(self._folder / "lib"))
        crate = build_crate(Path(self.root) / CRATE, self._folder)
        build_data["force_include"][str(crate)] = CRATE_MODULE
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Leave nothing behind."""
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder)


def compile_modules(sources: Path, folder: Path) -> list[Path]:
    """Compile what has a ``.pxd`` into ``folder / "lib"``; return the extension modules."""
    # Only a build that compiles needs these two.
    from Cython.Build import cythonize  # noqa: PLC0415
    from setuptools import Distribution, Extension  # noqa: PLC0415

    copy = folder / "src"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    paths = [path.with_suffix(".py") for path in sorted(copy.rglob("*.pxd"))]
    extensions = [
        Extension(
            ".".join(path.relative_to(copy).with_suffix("").parts),
            [str(path.relative_to(copy))],
            extra_compile_args=list(FLAGS),
        )
        for path in paths
    ]
    before = Path.cwd()
    os.chdir(copy)  # names of modules in tracebacks are relative to here
    try:
        distribution = Distribution(
            {"ext_modules": cythonize(extensions, compiler_directives=DIRECTIVES, quiet=True)}
        )
        build = distribution.get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(folder / "lib"), str(folder / "tmp")
        build.parallel = os.cpu_count()
        build.ensure_finalized()
        build.run()
    finally:
        os.chdir(before)
    return sorted((folder / "lib").rglob("*.so"))


def build_crate(crate: Path, folder: Path) -> Path:
    """
    Build the crate with the dependencies of its ``crates.lock``; return the library.

    That file is Cargo's lock without the address of a registry, which is this machine's affair:
    Cargo says it here, and then holds every crate to its version and hash. What is built is kept
    in ``CARGO_TARGET_DIR``, by default in the ``.cache`` of the tree.
    """
    copy = folder / "crate"
    shutil.copytree(crate, copy, ignore=shutil.ignore_patterns("target", "Cargo.lock"))
    target = os.environ.get("CARGO_TARGET_DIR") or str(crate.parents[1] / ".cache" / "rust")
    _cargo("generate-lockfile", "--quiet", folder=copy, target=target)
    lock = copy / "Cargo.lock"
    source = re.search(r"^source = .*\n", lock.read_text(), re.MULTILINE)
    if source is None:
        raise RuntimeError("cargo names no registry")
    pinned = (copy / "crates.lock").read_text()
    lock.write_text(re.sub(r"^checksum = ", f"{source[0]}checksum = ", pinned, flags=re.MULTILINE))
    _cargo("build", "--release", "--locked", "--quiet", folder=copy, target=target)
    return Path(target) / "release" / "lib_rustls.so"


def _cargo(*arguments: str, folder: Path, target: str) -> None:
    subprocess.run(  # noqa: S603 - nothing of it is anybody's input
        [os.environ.get("CARGO") or "cargo", *arguments],
        cwd=folder,
        env={**os.environ, "CARGO_TARGET_DIR": target},
        stdout=sys.stderr,
        check=True,
    )
