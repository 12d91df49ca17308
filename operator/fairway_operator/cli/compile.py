"""``fairway compile``: the snapshot that files come to, without any secret."""

from collections.abc import Sequence
from typing import Any

import msgspec

from fairway_operator.cli.forms import Output
from fairway_operator.cli.from_files import compile_files
from fairway_operator.cli.output import exit_status, print_data, print_problems, print_table, stdout
from fairway_operator.cli.routes import rows_of, table_of
from fairway_operator.findings import Severity
from fairway_snapshot.tree import Snapshot


def run(paths: Sequence[str], output: Output) -> int:
    """Print the snapshot on stdout and what is wrong on stderr; return the exit status."""
    compiled = compile_files(paths)
    snapshot = compiled.compilation.snapshot
    if output is Output.TEXT:
        _print_text(snapshot)
    else:
        print_data(snapshot_data(snapshot), output)
    print_problems(each for each in compiled.problems if each.severity is not Severity.INFO)
    return exit_status(compiled.problems)


def snapshot_data(snapshot: Snapshot) -> dict[str, Any]:
    """Return the stable form of a snapshot: of certificates the names alone."""
    return {
        "digest": snapshot.root.hex(),
        "hosts": {
            host or "*": [msgspec.to_builtins(route) for route in snapshot.hosts[host].routes]
            for host in sorted(snapshot.hosts)
        },
        "backends": {
            name: msgspec.to_builtins(snapshot.backends[name]) for name in sorted(snapshot.backends)
        },
        "certificates": sorted(snapshot.certificates),
        "serverNames": {
            name or "*": snapshot.server_names[name].certificate
            for name in sorted(snapshot.server_names)
        },
    }


def _print_text(snapshot: Snapshot) -> None:
    console = stdout()
    rows = list(rows_of(snapshot))
    console.print(f"digest {snapshot.root.hex()}")
    if rows:
        console.print()
        print_table(table_of(rows, snapshot.backends), console)
    for title, lines in (
        ("BACKENDS", _backend_lines(snapshot)),
        ("CERTIFICATES", _certificate_lines(snapshot)),
    ):
        if lines:
            console.print(f"\n{title}", style="bold")
            console.print("\n".join(lines), soft_wrap=True)


def _backend_lines(snapshot: Snapshot) -> list[str]:
    lines = []
    for name in sorted(snapshot.backends):
        backend = snapshot.backends[name]
        endpoints = ", ".join(
            f"[{each.host}]:{each.port}" if ":" in each.host else f"{each.host}:{each.port}"
            for each in backend.endpoints
        )
        lines.append(f"{name} {backend.protocol.value}: {endpoints or 'no endpoints'}")
    return lines


def _certificate_lines(snapshot: Snapshot) -> list[str]:
    return [
        f"{name or '*'}: {snapshot.server_names[name].certificate}"
        for name in sorted(snapshot.server_names)
    ]
