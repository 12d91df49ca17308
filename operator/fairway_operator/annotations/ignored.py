"""``fairway.dev/ignored-annotations``: annotations of other controllers that nobody misses here."""

import re

_NAME = re.compile(r"[a-z0-9][-a-z0-9.]{0,252}/(?:\*|[A-Za-z0-9][-A-Za-z0-9_.]{0,62})")
_LIMIT = 64


def parse_names(text: str) -> tuple[str, ...]:
    """Return names of annotations, or ``prefix/*`` for all of a prefix."""
    names = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    wrong = next((name for name in names if not _NAME.fullmatch(name)), None)
    if wrong is not None or not 0 < len(names) <= _LIMIT:
        raise ValueError(
            f"{(wrong or text)[:60]!r} names no annotation;"
            " write whole names with commas between them, or prefix/*"
        )
    return tuple(dict.fromkeys(names))
