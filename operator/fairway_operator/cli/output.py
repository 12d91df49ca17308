"""
What commands print: data to stdout, problems to stderr.

Text is for people; its colours appear on a terminal only. JSON and YAML are
for programs: names in them are stable, and new ones may be added.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairway_operator.cli.forms import Output
from fairway_operator.cli.problems import Problem, count, sort_key
from fairway_operator.findings import Severity

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold blue"}


def stdout() -> Console:
    """Return the console of what was asked for; lines are not wrapped where nobody reads them."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return the console of what is wrong."""
    return _console(stderr=True)


def print_data(data: Any, output: Output) -> None:
    """Print plain values as JSON or YAML, in the order they have."""
    if output is Output.YAML:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    else:
        text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"
    sys.stdout.write(text)


def print_table(table: Table, console: Console) -> None:
    """Print a table; in a file its lines do not end in blanks."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def print_problems(problems: Iterable[Problem], console: Console | None = None) -> None:
    """Print problems in the order of the files, on stderr unless told otherwise."""
    console = console or stderr()
    for problem in sorted(problems, key=sort_key):
        console.print(styled(problem), soft_wrap=True)


def styled(problem: Problem) -> Text:
    """Return the text of a problem with its severity in colour."""
    text = Text(problem.text)
    text.highlight_words([f"{problem.severity}: "], _STYLES[problem.severity])
    return text


def problem_data(problem: Problem) -> dict[str, Any]:
    """Return the stable form of a problem."""
    place, ref = problem.place, problem.object
    return {
        "severity": problem.severity.value,
        "reason": problem.reason,
        "object": ref and {"kind": ref.kind.value, "namespace": ref.namespace, "name": ref.name},
        "field": problem.field,
        "message": problem.message,
        "hint": problem.hint,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }


def summary(problems: Sequence[Problem]) -> str:
    """Return ``2 errors, 1 warning``."""
    parts = []
    for severity in (Severity.ERROR, Severity.WARNING):
        number = count(problems, severity)
        parts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    return ", ".join(parts)


def exit_status(problems: Iterable[Problem]) -> int:
    """Return 1 when there is an error, else 0."""
    return int(any(problem.is_error for problem in problems))


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        # A file has no width; a table must not be cut to that of a terminal from 1979.
        console = Console(
            stderr=stderr, highlight=False, emoji=False, markup=False, width=200, no_color=True
        )
    return console
