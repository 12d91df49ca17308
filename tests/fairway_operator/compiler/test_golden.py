"""
Whole scenarios: manifests in, everything that is served and told out.

Each ``golden/NAME.yaml`` has its answer beside it in ``golden/NAME.expected.yaml``.
A change of the answer is a change of what users get: read it, then write it
with ``python -m pytest tests/fairway_operator/compiler/test_golden.py`` and
``FAIRWAY_GOLDEN=write`` in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Seen

SCENARIOS = sorted(
    path
    for path in (Path(__file__).parent / "golden").glob("*.yaml")
    if not path.name.endswith(".expected.yaml")
)


def described(seen: Seen) -> dict[str, Any]:
    compilation = seen.compilation
    answer = {
        "root": compilation.snapshot.root.hex(),
        "hosts": compilation.snapshot.hosts,
        "backends": compilation.snapshot.backends,
        "server_names": compilation.snapshot.server_names,
        "findings": {
            str(ref): [
                f"{each.severity} {each.reason} {each.field}: {each.message}" for each in told
            ]
            for ref, told in compilation.findings.items()
        },
        "serving": {str(ref): serving for ref, serving in compilation.serving.items()},
    }
    text = msgspec.json.encode({name: _sorted(part) for name, part in answer.items()})
    return msgspec.json.decode(text, type=dict[str, Any])


def _sorted(part: Any) -> Any:
    return part if isinstance(part, str) else {key: part[key] for key in sorted(part)}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.stem))
def test_scenario(compiled: Compile, path: Path) -> None:
    answer = described(compiled(list(yaml.safe_load_all(path.read_text()))))
    expected = path.with_suffix(".expected.yaml")
    if os.environ.get("FAIRWAY_GOLDEN") == "write":
        expected.write_text(yaml.safe_dump(answer, sort_keys=False, width=100))

    assert answer == yaml.safe_load(expected.read_text())
