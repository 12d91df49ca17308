"""
A cluster on a machine without Docker: one node in namespaces of its own.

This is the outside: it makes the namespaces, remembers the one process that
holds them, and ends it. What runs within is :mod:`e2e.cluster.inside`. Needs
root, Go to build the programs, and Debian packages, which it installs.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from e2e.cluster import debian, inside, programs
from e2e.cluster.faults import FaultError, MissingError
from e2e.cluster.kubernetes import path_with
from e2e.places import CACHE, ROOT

WORK = CACHE / "local"
CGROUP = "k8s.io"
"""The folder of cgroups that containerd puts every container into."""

SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets for the whole machine; ``down`` puts back what stood there."""

_STOP_LIMIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the namespaces, and what has to be undone after it."""

    pid: int
    """Process 1 of the cluster, as this machine counts."""
    started: str
    """Its start time: a later process with the same number is somebody else."""
    made: tuple[str, ...]
    """Folders that had to be made to be covered."""
    cgroups: tuple[str, ...]
    """Folders of cgroups that were not there, so that all below them is the cluster's."""
    sysctls: Mapping[str, str]

    def alive(self) -> bool:
        """Whether it still runs."""
        return _start_time(self.pid) == self.started


class LocalKubernetes:
    """One node, built from Go modules and Debian packages."""

    def up(self) -> None:
        """Start it, or do nothing when it runs. Raises FaultError."""
        holder = _recall()
        if holder is not None and holder.alive() and (WORK / "ready").exists():
            print("the cluster is up already", flush=True)
            return
        if os.geteuid() != 0:
            raise MissingError("a local cluster needs root", "or write CLUSTER=kind")
        debian.install(debian.NODE)
        binaries, tools = programs.build(programs.KUBERNETES), programs.build(programs.TOOLS)
        self.down()
        started = time.monotonic()
        _start(binaries, tools)
        print(f"the cluster is up after {time.monotonic() - started:.1f} s", flush=True)

    def down(self) -> None:
        """Stop it and leave nothing behind; do nothing when there is none."""
        holder = _recall()
        if holder is not None:
            _end(holder)
            _remove_cgroups(holder)
            _restore(holder)
        if WORK.exists():
            shutil.rmtree(WORK)

    def load_image(self, archive: Path, name: str) -> None:
        """Make a ``docker save`` archive known to the node under ``name``."""
        socket = f"/proc/{self._holder().pid}/root/run/containerd/containerd.sock"
        ctr = ("ctr", "--address", socket, "--namespace", "k8s.io", "images")
        listed = subprocess.run((*ctr, "ls", "-q"), capture_output=True, text=True, check=True)
        if name in listed.stdout.split():
            return
        done = subprocess.run(
            (*ctr, "import", str(archive)), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise FaultError(f"containerd refuses {archive}: {done.stderr.strip()}")

    def node_address(self) -> str:
        """Return the address at which NodePorts answer, as seen by ``command``."""
        return inside.ADDRESS

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command that runs ``arguments`` in the cluster's network namespace."""
        # Not ``ip netns exec``: it mounts a new /sys and hides the cgroups.
        network = f"--net=/proc/{self._holder().pid}/ns/net"
        return ["nsenter", network, *map(str, arguments)]

    def environment(self) -> Mapping[str, str]:
        """Return what such a command needs."""
        binaries, tools = programs.build(programs.KUBERNETES), programs.build(programs.TOOLS)
        return {"PATH": path_with(binaries, tools), "KUBECONFIG": str(WORK / "kubeconfig")}

    def logs(self) -> str:
        """Return the folder of the components' logs."""
        return str(WORK / "log")

    def _holder(self) -> Holder:
        holder = _recall()
        if holder is None or not holder.alive():
            raise FaultError("the cluster is not up", "make cluster CLUSTER=local")
        return holder


def _start(binaries: Path, tools: Path) -> None:
    _check_place()
    log = WORK / "log" / "node.log"
    log.parent.mkdir(parents=True)
    made = _make_masked()
    cgroups = tuple(str(top) for top in _cgroup_tops() if not top.exists())
    there = (name for name in SYSCTLS if _sysctl(name).exists())
    sysctls = {name: _sysctl(name).read_text().strip() for name in there}
    ready, answer = os.pipe()
    with log.open("wb") as output:
        outer = subprocess.Popen(
            (
                *("unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork"),
                *("--mount-proc", sys.executable, "-m", inside.__name__),
                *(WORK, binaries, tools, str(answer)),
            ),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(answer,),
            start_new_session=True,
        )
    os.close(answer)
    pid = _child_of(outer)
    holder = Holder(pid=pid, started=_start_time(pid), made=made, cgroups=cgroups, sysctls=sysctls)
    (WORK / "holder.json").write_bytes(msgspec.json.encode(holder))
    with os.fdopen(ready, "rb") as said:
        if said.readline() != inside.READY:
            outer.wait()
            text = log.read_text(errors="replace").strip()
            LocalKubernetes().down()
            raise FaultError(f"the cluster did not start:\n{text}")
    (WORK / "ready").touch()


def _check_place() -> None:
    for place in ("/run", *inside.MASKED):
        if WORK.is_relative_to(place) or ROOT.is_relative_to(place):
            raise FaultError(
                f"{ROOT} is below {place}, which the cluster covers by its own",
                "move the checkout elsewhere",
            )


def _make_masked() -> tuple[str, ...]:
    """Make the folders that the cluster covers; return those that were not there."""
    made = tuple(place for place in inside.MASKED if not Path(place).exists())
    for place in made:
        Path(place).mkdir(parents=True)
    return made


def _child_of(outer: subprocess.Popen[bytes]) -> int:
    """Return the process that unshare forked, or its own number if it never did."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    while outer.poll() is None:
        with suppress(FileNotFoundError):
            text = children.read_text()
            if text:
                return int(text.split()[0])
        time.sleep(0.005)
    return outer.pid


def _recall() -> Holder | None:
    file = WORK / "holder.json"
    if not file.exists():
        return None
    return msgspec.json.decode(file.read_bytes(), type=Holder)


def _start_time(pid: int) -> str:
    """Return field 22 of proc_pid_stat(5), empty for a process that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def _end(holder: Holder) -> None:
    """End process 1; the kernel ends the rest with it, and their mounts and network."""
    limit = time.monotonic() + _STOP_LIMIT_SECONDS
    if holder.alive():
        os.kill(holder.pid, signal.SIGKILL)
    while holder.alive():
        if time.monotonic() > limit:
            raise FaultError(f"process {holder.pid} does not end")
        time.sleep(0.02)


def _cgroup_tops() -> Iterator[Path]:
    """Yield where the cgroups of containers go: one place with cgroup v2, many with v1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        yield root / CGROUP
        return
    yield from (hierarchy / CGROUP for hierarchy in root.iterdir() if not hierarchy.is_symlink())


def _remove_cgroups(holder: Holder) -> None:
    """Remove the empty folders that the containers leave; the deepest go first."""
    for top in holder.cgroups:
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_cgroup(Path(folder))


def _remove_cgroup(folder: Path) -> None:
    limit = time.monotonic() + _STOP_LIMIT_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            # A killed process counts as a member until the kernel has collected it.
            if time.monotonic() > limit:
                raise FaultError(f"{folder}: {error.strerror}") from error
            time.sleep(0.02)
        else:
            return


def _restore(holder: Holder) -> None:
    for name, value in holder.sysctls.items():
        if _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)
    for place in holder.made:
        Path(place).rmdir()


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name
