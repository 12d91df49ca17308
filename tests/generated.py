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
from fairway_operator.foreign.nginx import ROWS
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


MIGRATION = """\
# Coming from ingress-nginx

Made by `make docs` from the code; do not edit.

Annotations `nginx.ingress.kubernetes.io/*` of an Ingress of ours are read. What means the
same here is honoured; of the rest the object says what is missing and what to write instead:
as an event, in `fairway validate`, and in the answer of the webhook. An annotation of ours on
the same Ingress goes before theirs, and theirs before a default of the class.

What restricted access is never lost in silence: an Ingress with such an annotation answers
503 (`AccessNotEnforced`) until the annotation is gone, or is named in
`fairway.dev/ignored-annotations` on the Ingress or on its class: whole names with commas
between them, or `prefix/*`. Of other controllers (HAProxy, Traefik, Kong, Contour, ALB,
nginx.org) no annotation is read: each is a warning, and closes the Ingress if its name speaks
of access (`auth`, `allowlist`, `middlewares` and such).

Try it before you change a class: `fairway validate -f FOLDER`, or `fairway dev -f FOLDER`.

| annotation, after `nginx.ingress.kubernetes.io/` | here |
|---|---|
ROWS

Paths keep what [Kubernetes says](kubernetes.md) of them: `Exact` and `Prefix` are no regular
expressions because another path, or another Ingress of the host, is one; they are compared
with case; and `/shop/` is not reached by a redirect from `/shop`.
"""


def migration_page() -> str:
    """Return ``docs/ingress-nginx.md``."""
    rows = (f"| {', '.join(f'`{name}`' for name in row.names)} | {row.becomes} |" for row in ROWS)
    return MIGRATION.replace("ROWS", "\n".join(rows))


FILES: dict[str, Callable[[], str]] = {
    "crds/fairway.dev_routes.yaml": render_crd,
    "charts/fairway/crds/fairway.dev_routes.yaml": render_crd,
    "charts/fairway/values.schema.json": values_schema.schema,
    "charts/fairway/README.md": values_schema.readme,
    "docs/ingress-nginx.md": migration_page,
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
