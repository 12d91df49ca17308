"""
What is wrong with the input, and where, for the person who wrote it.

A finding of the compiler knows the object and the field; a file that cannot be
read has neither. A :class:`Problem` is either of them with its place in the
files. Its text form starts with ``file:line:column``, which editors and CI
systems turn into a link; its JSON form is stable.
"""

from collections.abc import Iterable

import msgspec

from fairway_operator.findings import Finding, Severity
from fairway_operator.refs import ObjectRef


class Place(msgspec.Struct, frozen=True, order=True, gc=False):
    """A position in a file; line and column count from 1, 0 stands for the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Return ``file:line:column``."""
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that is wrong with the input."""

    severity: Severity
    reason: str
    """A :class:`~fairway_operator.findings.Reason`, or one of the reading itself."""
    message: str
    hint: str = ""
    place: Place | None = None
    object: ObjectRef | None = None
    field: str = ""

    @property
    def is_error(self) -> bool:
        """Whether a part of the input does not count as it is written."""
        return self.severity is Severity.ERROR

    @property
    def text(self) -> str:
        """
        The problem as people read it, without a line break at the end.

        Names of files and objects are others' text, which a terminal must not obey.
        """
        parts = [f"{self.place}: " if self.place else "", f"{self.severity}: "]
        if self.object is not None:
            parts.append(f"{self.object}: ")
        if self.field:
            parts.append(f"{self.field}: ")
        parts.append(self.message)
        shown = _printable("".join(parts))
        return f"{shown}\n    {_printable(self.hint)}" if self.hint else shown


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def problem_of(finding: Finding, place: Place | None) -> Problem:
    """Say where a finding of the compiler stands in the files."""
    return Problem(
        severity=finding.severity,
        reason=finding.reason.value,
        message=finding.message,
        hint=finding.hint,
        place=place,
        object=finding.subject,
        field=finding.field,
    )


def sort_key(problem: Problem) -> tuple[bool, Place, str]:
    """Order problems as one reads files: by place, those without one last."""
    return problem.place is None, problem.place or Place(""), problem.text


def count(problems: Iterable[Problem], severity: Severity) -> int:
    """Count the problems of one severity."""
    return sum(problem.severity is severity for problem in problems)
