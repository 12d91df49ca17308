"""
The one exception of the readers: a document that is not what it should be.

It is raised where the mistake is met and caught once, by
:mod:`fairway_operator.cli.manifests`, which makes a value of it.
"""

import re

import yaml


class Malformed(Exception):  # noqa: N818 - a state of the text, not of the program
    """A document that cannot be read; line and column count from 1 within its text."""

    def __init__(self, message: str, hint: str = "", *, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column


def shown(value: object) -> str:
    """Show a user's text in quotes and of bounded length."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "...'"


def position(event: yaml.Event) -> tuple[int, int]:
    """Return line and column of an event, from 1."""
    mark = event.start_mark
    assert mark is not None  # libyaml marks every event
    return mark.line + 1, mark.column + 1


def at(event: yaml.Event, message: str, hint: str) -> Malformed:
    """Say what is wrong where an event starts."""
    line, column = position(event)
    return Malformed(message, hint, line=line, column=column)


def of_syntax(error: yaml.MarkedYAMLError) -> Malformed:
    """Say what libyaml's scanner or parser met."""
    mark = error.problem_mark or error.context_mark
    message = ", ".join(part for part in (error.problem, error.context) if part)
    hint = _HINTS.get(error.problem or "", "")
    if mark is None:
        return Malformed(message, hint)
    return Malformed(message, hint, line=mark.line + 1, column=mark.column + 1)


_HINTS = {
    "found character that cannot start any token": (
        "indent with spaces, not tabs; put a text that starts with @, ` or % in quotes"
    ),
    "mapping values are not allowed in this context": (
        "look for a line above that is not indented as its neighbours, or put the text in quotes"
    ),
    "did not find expected key": "look at the indentation of this line and of the one above",
    "did not find expected '-' indicator": "indent the items of a sequence alike",
    "could not find expected ':'": "write key: value",
}


def of_reader(text: str, error: yaml.YAMLError) -> Malformed:
    """Say what libyaml's reader met; its errors have no mark."""
    found = _CONTROL.search(text)
    if found is None:
        return Malformed(str(error).splitlines()[0])
    before = text[: found.start()]
    return Malformed(
        f"the control character {found[0]!r} is not allowed",
        "save the file as plain text in UTF-8",
        line=before.count("\n") + 1,
        column=found.start() - (before.rfind("\n") + 1) + 1,
    )


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
