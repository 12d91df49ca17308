"""
The files that are made from the code: write them, or check that they are fresh.

    python -m tests.generated            write
    python -m tests.generated --check    say which are stale; exit 1 if any is
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from e2e import values_schema
from fairway_dataplane.config import DataplaneConfig
from fairway_operator.api.__main__ import render as render_crd
from fairway_operator.config import OperatorConfig
from fairway_snapshot.settings import Setting, describe

ROOT = Path(__file__).parent.parent


def settings_page() -> str:
    """Return ``docs/settings.md``."""
    return "\n".join(
        [
            "# Settings",
            "",
            "Made by `make docs` from the code; do not edit.",
            "",
            "Every setting is an environment variable and a flag of its program. In the chart,",
            "`operator.settings` and `dataplane.settings` take the same names. Durations are in",
            "seconds, sizes in bytes. A name that is not in these tables is refused at start.",
            "",
            "## fairway operator",
            "",
            *_table(describe(OperatorConfig)),
            "",
            "## fairway dataplane",
            "",
            *_table(describe(DataplaneConfig)),
            "",
        ]
    )


def _table(settings: Iterable[Setting]) -> Iterable[str]:
    yield "| variable | flag | default | what |"
    yield "|---|---|---|---|"
    for setting in settings:
        doc = " ".join(setting.doc.replace("``", "`").replace("|", "\\|").split())
        yield f"| `{setting.variable}` | `{setting.flag}` | {_default(setting.default)} | {doc} |"


def _default(value: object) -> str:
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case tuple() | "" | None:
            return "none"
        case _:
            return f"`{value}`"


FILES: dict[str, Callable[[], str]] = {
    "crds/fairway.dev_routes.yaml": render_crd,
    "charts/fairway/crds/fairway.dev_routes.yaml": render_crd,
    "charts/fairway/values.schema.json": values_schema.schema,
    "charts/fairway/README.md": values_schema.readme,
    "docs/settings.md": settings_page,
}


def main() -> int:
    """Write or check; 1 when a check finds a stale file."""
    stale = []
    for name, render in FILES.items():
        path, text = ROOT / name, render()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stdout.write(f"wrote {name}\n")
    if stale and "--check" in sys.argv:
        sys.stderr.write(f"stale, run `make docs`: {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
