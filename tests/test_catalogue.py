"""Every line of ``docs/kubernetes.md`` is held by a test that names its code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from fairway_operator.annotations import TABLE
from fairway_operator.refs import Kind

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"^\| ([A-Z][0-9]{1,2}) \| (.+) \|$", re.MULTILINE)

ELSEWHERE = {
    # The same rule is row 104 of the HTTP policy, whose tests have names of their own.
    "H8": "a_connection_covers_the_hosts_of_its_certificate",
}


def told() -> dict[str, str]:
    return dict(LINE.findall((ROOT / "docs" / "kubernetes.md").read_text()))


def names_and_rows() -> Iterator[str]:
    """Yield the names and documentation of tests, and the ids of their rows."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    if name.startswith("test_"):
                        yield name
                        yield ast.get_docstring(node) or ""
                case ast.Call(func=ast.Attribute(attr="param"), keywords=keywords):
                    for keyword in keywords:
                        if keyword.arg == "id" and isinstance(keyword.value, ast.Constant):
                            yield str(keyword.value.value)


def test_every_line_names_a_test() -> None:
    texts = list(names_and_rows())
    named = {
        code.upper()
        for text in texts
        for code in re.findall(
            r"(?:^|[^a-z0-9])([hpdcstxl][0-9]{1,2})(?=[^a-z0-9]|$)", text.lower()
        )
    }

    missing = [code for code in told() if code not in named and code not in ELSEWHERE]

    assert missing == []
    for name in ELSEWHERE.values():
        assert any(name in text for text in texts), name


def test_every_annotation_has_a_row() -> None:
    pages = dict.fromkeys((Kind.INGRESS, Kind.ROUTE, Kind.INGRESS_CLASS), "kubernetes.md")
    pages[Kind.SERVICE] = "backends.md"
    rows = {
        page: set(re.findall(r"^\| `fairway.dev/([a-z-]+)` \|", text, re.MULTILINE))
        for page in set(pages.values())
        for text in [(ROOT / "docs" / page).read_text()]
    }

    missing = [
        (name, kind)
        for name, row in TABLE.items()
        for kind in row.kinds
        if name not in rows[pages[kind]]
    ]

    assert missing == []


def test_the_catalogue_is_whole() -> None:
    counts = {"H": 8, "P": 11, "D": 5, "C": 8, "S": 11, "T": 13, "X": 3, "L": 5}

    assert list(told()) == [
        f"{letter}{number}" for letter, count in counts.items() for number in range(1, count + 1)
    ]
