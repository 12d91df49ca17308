"""
The chart as text: lint, and renderings that a reader can compare.

``e2e/golden`` holds pairs: values, and what helm makes of them. A change of the
chart shows in the diff of the renderings, where a reviewer sees it.
"""

import os
import subprocess
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path

from e2e.cluster.faults import FaultError
from e2e.places import CHART, ROOT

GOLDEN = ROOT / "e2e" / "golden"
KUBE_VERSION = ("--kube-version", "1.36.0")
"""helm knows none without a cluster, and one built from modules takes 1.20."""

REFUSED = (
    ("dataplane.replica=3", "replica"),
    ("dataplane.service.http.nodport=30080", "nodport"),
    ("operator.settings.logLevl=debug", "logLevl"),
    ("dataplane.settings.limits.headerBytes=1", "headerBytes"),
    ("dataplane.kind=StatefulSet", "kind"),
    ("dataplane.service.type=ExternalName", "type"),
    ("dataplane.replicas=many", "replicas"),
    ("image.digest=sha256:short", "digest"),
    ("dataplane.kind=DaemonSet,dataplane.autoscaling.enabled=true", "autoscaling"),
    ("dataplane.autoscaling.enabled=true,dataplane.autoscaling.minReplicas=11", "minReplicas"),
    ("dataplane.hostNetwork=true,dataplane.hostPorts.enabled=true", "hostPorts"),
    ("ingressClass.create=false,ingressClass.default=true", "ingressClass"),
    (
        "operator.watchNamespaces={shop},operator.settings.defaultCertificate=edge/tls",
        "defaultCertificate",
    ),
    ("dataplane.settings.adminBindAddress=127.0.0.1", "hostNetwork"),
    ("metrics.service.enabled=false,metrics.serviceMonitor.enabled=true", "serviceMonitor"),
)
"""Values that would not do what they seem to say, and what the complaint has to name."""

CRDS = ROOT / "crds"
"""The source of the chart's CRDs; helm takes no links."""


def check(environment: Mapping[str, str], *, write: bool) -> None:
    """Compare; with ``write``, make equal instead. Raises FaultError."""
    _lint(environment)
    _refuse(environment)
    copies = {CHART / "crds" / crd.name: crd.read_text() for crd in sorted(CRDS.glob("*.yaml"))}
    renderings = {
        values.with_name(values.name.replace(".values.yaml", ".yaml")): _render(environment, values)
        for values in sorted(GOLDEN.glob("*.values.yaml"))
    }
    wanted = copies | renderings
    if write:
        for path, text in wanted.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return
    stale = [_difference(path, text) for path, text in wanted.items() if _read(path) != text]
    if stale:
        raise FaultError(
            "the chart is not what these files say:\n" + "\n".join(stale),
            "if the change is meant: python -m e2e.run chart --write",
        )
    print(
        f"chart: lint clean, {len(copies)} CRDs and {len(renderings)} renderings as expected, "
        f"{len(REFUSED)} mistakes refused"
    )


def _lint(environment: Mapping[str, str]) -> None:
    for values in sorted(GOLDEN.glob("*.values.yaml")):
        _helm(
            environment,
            *("lint", "--strict", "--quiet", *KUBE_VERSION, str(CHART), "--values", str(values)),
        )


def _refuse(environment: Mapping[str, str]) -> None:
    for values, named in REFUSED:
        try:
            _helm(environment, *_template("--set", values))
        except FaultError as error:
            if named not in str(error).partition("\n")[2]:
                raise FaultError(f"--set {values}: the complaint does not name {named}") from error
        else:
            raise FaultError(f"helm takes --set {values}", "see e2e/values_schema.py")


def _render(environment: Mapping[str, str], values: Path) -> str:
    return _helm(environment, *_template("--values", str(values)))


def _template(*arguments: str) -> tuple[str, ...]:
    release = ("fairway", str(CHART), "--namespace", "fairway-system")
    return ("template", *release, *KUBE_VERSION, *arguments)


def _helm(environment: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ("helm", *arguments),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise FaultError(f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _difference(path: Path, wanted: str) -> str:
    lines = unified_diff(
        _read(path).splitlines(),
        wanted.splitlines(),
        fromfile=str(path.relative_to(ROOT)),
        tofile="now",
        lineterm="",
        n=1,
    )
    return "\n".join(lines)
