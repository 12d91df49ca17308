"""
The node: process 1 of the local cluster's own namespaces.

Started by :mod:`e2e.cluster.local` with new network, mount, process, IPC and
host-name namespaces. Everything that the cluster starts is a descendant of this
process, and everything it mounts is in this mount namespace: when this process
ends, the kernel ends and unmounts all of it. That is the one rule here, and why
nothing needs to be cleaned up from within.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from e2e.cluster.api import Api
from e2e.cluster.faults import FaultError, tail
from e2e.cluster.images import write_scratch_image
from e2e.cluster.pki import Pki

ADDRESS = "10.77.0.1"
"""The node's address; the API server refuses endpoints in 127/8."""

SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
NODE = "node1"
API = f"{ADDRESS}:6443"
ETCD = "http://127.0.0.1:2379"
ETCD_PEER = "http://127.0.0.1:2380"

MASKED = (
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
"""Fixed places of the components, each covered by a folder of the cluster's own."""

PRIVATE = Path("/run/fairway")
"""Configuration and keys, on the private ``/run``."""

READY = b"ready\n"
CONFIGURATION = Path(__file__).parent / "node"
START_LIMIT_SECONDS = 120.0

REPLACED = ("etcd", "kube-apiserver")
"""Components that are started again when somebody kills them."""

REPLACE_AFTER_SECONDS = 0.5


class Component(NamedTuple):
    """A program of the cluster."""

    name: str
    command: tuple[str | Path, ...]
    process: subprocess.Popen[bytes]
    """Kept, for one that is dropped collects its process, and ``stay`` would never hear of it."""


class Node:
    """The components of the cluster, as children of this process."""

    def __init__(self, work: Path, binaries: Path, tools: Path) -> None:
        self._work = work
        self._binaries = binaries
        self._tools = tools
        self._running: dict[int, Component] = {}

    def start(self) -> None:
        """Bring up everything and return when a pod could be scheduled. Raises FaultError."""
        _mount(self._work)
        _network()
        pki = self._credentials()
        api = Api(API, pki)
        self._component("containerd", "containerd", "--config", CONFIGURATION / "containerd.toml")
        self._kube("etcd", *_ETCD_FLAGS)
        self._kube("kube-apiserver", *_API_SERVER_FLAGS)
        self._wait(api.ready, "the API server is ready", "kube-apiserver", "etcd")
        self._kube("kube-controller-manager", *_CONTROLLER_MANAGER_FLAGS)
        self._kube("kube-scheduler", *_SCHEDULER_FLAGS)
        self._pause_image()
        self._kube("kubelet", *_KUBELET_FLAGS)
        self._kube("kube-proxy", f"--config={CONFIGURATION / 'kube-proxy.yaml'}")
        self._component("coredns", self._tools / "coredns", "-conf", CONFIGURATION / "Corefile")
        self._wait(lambda: api.node_ready(NODE), "the node is ready", "kubelet", "containerd")
        self._wait(api.has_default_account, "accounts exist", "kube-controller-manager")

    def stay(self) -> None:
        """
        Collect the processes that end, until a component fails.

        What was killed is started again, as a kubelet does it with the control
        plane: scenarios kill it to see what becomes of the rest.
        """
        while True:
            pid, status = os.wait()
            component = self._running.pop(pid, None)
            if component is None:
                continue
            name, command, process = component
            code = process.returncode = os.waitstatus_to_exitcode(status)
            if code != -signal.SIGKILL or name not in REPLACED:
                raise FaultError(f"{name} ended with {code}\n{tail(self._log(name))}")
            time.sleep(REPLACE_AFTER_SECONDS)
            self._component(name, *command)

    def _credentials(self) -> Path:
        """Write certificates and kubeconfigs; return the folder of the certificates."""
        pki = Pki(PRIVATE / "pki")
        kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        pki.issue(
            "kube-apiserver",
            "kube-apiserver",
            "kubernetes",
            (*kubernetes, ADDRESS, "127.0.0.1", "10.96.0.1"),
        )
        pki.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
        pki.issue("kubelet", f"system:node:{NODE}", "system:nodes", (NODE, ADDRESS))
        for name in ("admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"):
            pki.issue(name, name, "system:masters")
        for name in _CLIENTS:
            (PRIVATE / f"{name}.conf").write_text(pki.kubeconfig(name, f"https://{API}"))
        outside = self._work / "kubeconfig"
        outside.touch(mode=0o600)
        outside.write_text((PRIVATE / "admin.conf").read_text())
        return pki.folder

    def _pause_image(self) -> None:
        archive = PRIVATE / "pause.tar"
        write_scratch_image(archive, "localhost/pause:1", self._tools / "pause")
        self._wait(lambda: _import(archive), "containerd takes images", "containerd")

    def _kube(self, name: str, *flags: str) -> None:
        self._component(name, self._binaries / "kubecluster", name, *flags)

    def _component(self, name: str, *command: str | Path) -> None:
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[process.pid] = Component(name, command, process)

    def _wait(self, done: Callable[[], bool], what: str, *names: str) -> None:
        limit = time.monotonic() + START_LIMIT_SECONDS
        while not done():
            for pid, (name, *_) in self._running.items():
                # Left to be collected by ``stay``: here it only ends the wait.
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is not None:
                    raise FaultError(f"{name} ended at once\n{tail(self._log(name))}")
            if time.monotonic() > limit:
                logs = "\n".join(tail(self._log(name)) for name in names)
                raise FaultError(f"not true after {START_LIMIT_SECONDS:.0f} s: {what}\n{logs}")
            time.sleep(0.1)

    def _log(self, name: str) -> Path:
        return self._work / "log" / f"{name}.log"


def _mount(work: Path) -> None:
    """Cover what the components share with the machine by what is the cluster's own."""
    _run("mount", "--make-rshared", "/")
    for place in MASKED:
        own = work / "state" / place.strip("/").replace("/", "-")
        own.mkdir(parents=True)
        _run("mount", "--bind", str(own), place)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    (PRIVATE / "cni").mkdir(parents=True)
    conflist = "10-bridge.conflist"
    (PRIVATE / "cni" / conflist).write_text((CONFIGURATION / conflist).read_text())


def _network() -> None:
    """Give the namespace one address and a way out that leads back to itself."""
    _run("hostname", NODE)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "fw0", "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/24", "dev", "fw0")
    _run("ip", "link", "set", "fw0", "up")
    _run("ip", "route", "add", "default", "via", ADDRESS, "dev", "fw0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _import(archive: Path) -> bool:
    command = ("ctr", "--namespace", "k8s.io", "images", "import", str(archive))
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FaultError(f"{' '.join(command)}: {done.stderr.strip()}", "is this run as root?")


_CLIENTS = (
    "admin",
    "coredns",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
)
_PKI = PRIVATE / "pki"
_ETCD_FLAGS = (
    f"--data-dir={PRIVATE}/etcd",
    f"--listen-client-urls={ETCD}",
    f"--advertise-client-urls={ETCD}",
    f"--listen-peer-urls={ETCD_PEER}",
    f"--initial-advertise-peer-urls={ETCD_PEER}",
    f"--initial-cluster=default={ETCD_PEER}",
    "--unsafe-no-fsync",
)
_API_SERVER_FLAGS = (
    f"--etcd-servers={ETCD}",
    f"--advertise-address={ADDRESS}",
    "--secure-port=6443",
    f"--service-cluster-ip-range={SERVICES}",
    f"--client-ca-file={_PKI}/ca.crt",
    f"--tls-cert-file={_PKI}/kube-apiserver.crt",
    f"--tls-private-key-file={_PKI}/kube-apiserver.key",
    f"--service-account-key-file={_PKI}/accounts.pub",
    f"--service-account-signing-key-file={_PKI}/accounts.key",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--allow-privileged=true",
    # By name, ``kubectl logs`` and ``exec`` would ask DNS for the node.
    "--kubelet-preferred-address-types=InternalIP",
    f"--kubelet-client-certificate={_PKI}/kubelet-client.crt",
    f"--kubelet-client-key={_PKI}/kubelet-client.key",
    f"--kubelet-certificate-authority={_PKI}/ca.crt",
)
_CONTROLLER_MANAGER_FLAGS = (
    f"--kubeconfig={PRIVATE}/kube-controller-manager.conf",
    f"--cluster-signing-cert-file={_PKI}/ca.crt",
    f"--cluster-signing-key-file={_PKI}/ca.key",
    f"--root-ca-file={_PKI}/ca.crt",
    f"--service-account-private-key-file={_PKI}/accounts.key",
    "--use-service-account-credentials",
    "--allocate-node-cidrs",
    f"--cluster-cidr={PODS}",
    "--leader-elect=false",
    # Longer than any scenario keeps the kubelet from the API server: one node that is taken for
    # lost takes every endpoint with it.
    "--node-monitor-grace-period=10m",
)
_SCHEDULER_FLAGS = (f"--kubeconfig={PRIVATE}/kube-scheduler.conf", "--leader-elect=false")
_KUBELET_FLAGS = (
    f"--config={CONFIGURATION / 'kubelet.yaml'}",
    f"--kubeconfig={PRIVATE}/kubelet.conf",
    f"--hostname-override={NODE}",
    f"--node-ip={ADDRESS}",
)


def main() -> int:
    """``inside.py WORK BINARIES TOOLS DESCRIPTOR``: say ready on the descriptor, then stay."""
    work, binaries, tools = (Path(argument) for argument in sys.argv[1:4])
    answer = int(sys.argv[4])
    os.set_inheritable(answer, False)  # noqa: FBT003 - has no keyword
    # Process 1 ignores what it has no handler for; a stop of the machine should end it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    node = Node(work, binaries, tools)
    try:
        node.start()
        os.write(answer, READY)
        os.close(answer)
        node.stay()
    except FaultError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
