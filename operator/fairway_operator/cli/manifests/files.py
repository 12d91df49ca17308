"""
Files to text: what the paths of the command line name, read within limits.

Nothing here raises for what is on the disk; a file that cannot be read is a
problem and costs no other file.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from fairway_operator.cli.problems import Place, Problem
from fairway_operator.findings import Severity

MAX_FILE_BYTES = 16 * 1024 * 1024
"""A cluster with 10,000 Ingresses exports to about a third of this."""

SUFFIXES = (".yaml", ".yml", ".json")

STDIN = "-"


def list_files(paths: Iterable[str]) -> tuple[list[str], list[Problem]]:
    """
    Return the files that ``paths`` name, each once, in a stable order.

    Folders are searched with their subfolders for :data:`SUFFIXES`; hidden
    files and folders, which editors and version control leave there, are not
    read. A path that is named itself is read whatever it is called.
    """
    found: dict[str, None] = {}
    problems: list[Problem] = []
    for path in paths:
        if path == STDIN or not os.path.isdir(path):  # noqa: PTH112 - a str that may be "-"
            found[path] = None
        else:
            found.update(dict.fromkeys(_in_folder(path, problems)))
    return list(found), problems


def read_text(file: str, stdin: BinaryIO | None = None) -> str | Problem:
    """Read a file, or ``stdin`` for ``-``; at most :data:`MAX_FILE_BYTES` of UTF-8."""
    try:
        if file == STDIN:
            assert stdin is not None  # the caller reads it, once
            data = stdin.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return _problem(file, "UnreadableFile", f"cannot be read: {reason}", "")
    if len(data) > MAX_FILE_BYTES:
        return _problem(
            file,
            "FileTooLarge",
            f"is larger than {MAX_FILE_BYTES // 1024**2} MiB",
            "split it into several files",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return Problem(
            severity=Severity.ERROR,
            reason="InvalidEncoding",
            message=f"the byte 0x{data[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8",
            place=Place(shown_name(file), line, column),
        )


def shown_name(file: str) -> str:
    """Return the name to print for a file."""
    return "<stdin>" if file == STDIN else file


def _in_folder(folder: str, problems: list[Problem]) -> Iterator[str]:
    def failed(error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        problems.append(
            _problem(str(error.filename), "UnreadableFile", f"cannot be read: {reason}", "")
        )

    for at, folders, files in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(at, name)  # noqa: PTH118 - keeps the path as the user wrote it
            if name.endswith(SUFFIXES) and not name.startswith(".") and not _is_special(path):
                yield path


def _is_special(path: str) -> bool:
    """Tell what would block a reader, such as a named pipe; a dangling link is for the report."""
    found = Path(path)
    return found.exists() and not found.is_file()


def _problem(file: str, reason: str, message: str, hint: str) -> Problem:
    return Problem(
        severity=Severity.ERROR,
        reason=reason,
        message=message,
        hint=hint,
        place=Place(shown_name(file)),
    )
