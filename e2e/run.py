"""
The commands behind ``make cluster``, ``e2e``, ``cluster-down`` and ``image``.

    python -m e2e.run up | down | status | chart | image | test [pytest arguments]

``CLUSTER=local|kind|existing`` picks the cluster. ``test`` does all that is
missing for it: checks the chart, builds the image, starts the cluster; it
leaves the cluster running.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from e2e import chart, faketime, image
from e2e.cluster.faults import FaultError
from e2e.cluster.kubernetes import Kubernetes, choose
from e2e.places import ROOT


def up(kubernetes: Kubernetes, _: Sequence[str]) -> int:
    """Start the cluster and say how to use it."""
    kubernetes.up()
    print(_usage(kubernetes))
    return 0


def down(kubernetes: Kubernetes, _: Sequence[str]) -> int:
    """Stop the cluster."""
    kubernetes.down()
    return 0


def status(kubernetes: Kubernetes, _: Sequence[str]) -> int:
    """Show the nodes and pods."""
    for what in (("nodes",), ("pods", "--all-namespaces")):
        done = _inside(kubernetes, ("kubectl", "get", *what, "--output", "wide"))
        if done != 0:
            return done
    return 0


def check_chart(kubernetes: Kubernetes, arguments: Sequence[str]) -> int:
    """Lint the chart and compare its renderings with the golden ones; ``--write`` renews those."""
    chart.check(kubernetes.environment(), write="--write" in arguments)
    return 0


def build_image(_: Kubernetes, __: Sequence[str]) -> int:
    """Build the image and name it."""
    name, archive = image.build()
    print(f"{name} in {archive}")
    return 0


def test(kubernetes: Kubernetes, arguments: Sequence[str]) -> int:
    """Run the whole suite."""
    started = time.monotonic()
    chart.check(kubernetes.environment(), write=False)
    faketime.fetch()
    name = os.environ.get("IMAGE")
    if name is None:
        name, archive = image.build()
        kubernetes.up()
        kubernetes.load_image(archive, name)
    else:
        kubernetes.up()
    node = {"FAIRWAY_E2E_IMAGE": name, "FAIRWAY_E2E_NODE": kubernetes.node_address()}
    print(
        f"chart, image and cluster are ready after {time.monotonic() - started:.0f} s", flush=True
    )
    pytest = (
        *(sys.executable, "-m", "pytest", "--durations=10", "--durations-min=1"),
        *("--rootdir", str(ROOT), str(ROOT / "e2e")),
    )
    result = _inside(kubernetes, (*pytest, *arguments), node)
    if result != 0:
        print(f"the cluster's own logs: {kubernetes.logs()}")
    print(f"e2e took {time.monotonic() - started:.0f} s")
    return result


def _inside(
    kubernetes: Kubernetes, command: Sequence[str], more: dict[str, str] | None = None
) -> int:
    environment = {**os.environ, **kubernetes.environment(), **(more or {})}
    return subprocess.run(
        kubernetes.command(command), env=environment, cwd=ROOT, check=False
    ).returncode


def _usage(kubernetes: Kubernetes) -> str:
    environment = kubernetes.environment()
    exports = "\n".join(f"export {name}={value}" for name, value in sorted(environment.items()))
    return f"{exports}\n{' '.join(kubernetes.command(('kubectl', 'get', 'pods', '-A')))}"


COMMANDS: dict[str, Callable[[Kubernetes, Sequence[str]], int]] = {
    "up": up,
    "down": down,
    "status": status,
    "chart": check_chart,
    "image": build_image,
    "test": test,
}


def main() -> int:
    """Run one command; 1 when it failed, 2 when there is no such command."""
    name, *arguments = sys.argv[1:] or [""]
    command = COMMANDS.get(name)
    if command is None:
        _wrong(f"there is no command {name!r}; write one of {', '.join(COMMANDS)}")
    try:
        return command(choose(os.environ.get("CLUSTER") or "local"), arguments)
    except FaultError as error:
        print(error, file=sys.stderr)
        return 1


def _wrong(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main())
