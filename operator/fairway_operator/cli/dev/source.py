"""
The files as a source: what they hold now, and what of it may count.

A file is saved in more ways than one: truncated and written again, moved away
and replaced, written in pieces. So a text that cannot be read leaves what its
file held before in place, and what looks like a loss (an object or a file that
is gone) must still look so a moment later. What is new counts at once.

Scanning blocks, so it runs in a thread; one scan at a time.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fairway_operator.cli.manifests import FileContent, parse
from fairway_operator.cli.manifests.documents import load
from fairway_operator.cli.manifests.files import STDIN, list_files, read_text
from fairway_operator.cli.problems import Problem

LOSS_SECONDS = 0.05
"""How long an object must be missing before its file is taken at its word."""

_Signature = tuple[int, ...]
_GONE: _Signature = ()
_MISSING: _Signature = (-1, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class Reading:
    """All files at one moment."""

    contents: Mapping[str, FileContent]
    """What counts of each file: its text, or the last one that could be read."""
    problems: tuple[Problem, ...]
    """What is wrong with the texts as they are."""
    stale: tuple[str, ...]
    """Files whose text cannot be read, and of which an earlier one counts."""
    unsettled: bool
    """Something looks lost; scan again after :data:`LOSS_SECONDS`."""


@dataclass(slots=True)
class _File:
    signature: _Signature
    text: FileContent
    counts: FileContent
    chunks: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def is_stale(self) -> bool:
        """Whether an earlier text counts instead of the present one."""
        return self.counts is not self.text


class FileSource:
    """Reads the same paths again and again, and only what has changed of them."""

    def __init__(self, paths: Sequence[str], stdin: BinaryIO) -> None:
        self._paths = paths
        self._stdin = stdin
        self._files: dict[str, _File] = {}
        self._doubts: dict[str, tuple[_Signature, float]] = {}
        """Files that have lost something: as which version, and when that was first seen."""

    def scan(self, now: float) -> Reading:
        """Return what the files hold; ``now`` is a monotonic clock in seconds."""
        names, problems = list_files(self._paths)
        for name in self._files.keys() - set(names):
            if self._is_settled(name, _GONE, now):
                del self._files[name]
        for name in names:
            self._look(name, now)
        order = [*names, *(name for name in self._files if name not in set(names))]
        files = {name: self._files[name] for name in order if name in self._files}
        return Reading(
            contents={name: file.counts for name, file in files.items()},
            problems=(*problems, *(each for file in files.values() for each in file.text.problems)),
            stale=tuple(name for name, file in files.items() if file.is_stale),
            unsettled=bool(self._doubts),
        )

    def _look(self, name: str, now: float) -> None:
        known = self._files.get(name)
        if name == STDIN and known is not None:
            return
        signature = _signature(name)
        if known is not None and known.signature == signature:
            self._doubts.pop(name, None)
            return
        chunks: dict[str, list[Any]] = {}

        def load_chunk(text: str) -> list[Any]:
            chunks[text] = known.chunks[text] if known and text in known.chunks else load(text)
            return chunks[text]

        text = read_text(name, self._stdin)
        if isinstance(text, Problem):
            content = FileContent(problems=(text,))
        else:
            content = parse(name, text, load_chunk)
        if known is None:
            self._files[name] = _File(signature, content, content, chunks)
            return
        if content.broken and signature != _MISSING:
            # Read anew next time only if it has changed; what counts stays.
            self._doubts.pop(name, None)
            self._files[name] = _File(signature, content, known.counts, known.chunks)
            return
        lost = _refs(known.counts) - _refs(content)
        if not lost or self._is_settled(name, signature, now):
            self._doubts.pop(name, None)
            self._files[name] = _File(signature, content, content, chunks)

    def _is_settled(self, name: str, signature: _Signature, now: float) -> bool:
        seen, since = self._doubts.get(name, (None, now))
        if seen != signature:
            self._doubts[name] = (signature, now)
            return False
        if now - since < LOSS_SECONDS:
            return False
        del self._doubts[name]
        return True


def _refs(content: FileContent) -> set[object]:
    return {manifest.ref for manifest in content.manifests}


def _signature(name: str) -> _Signature:
    """Return what changes with the content; a file that cannot be asked is always new."""
    if name == STDIN:
        return (0,)
    try:
        found = os.stat(name)  # noqa: PTH116 - paths are as the user wrote them
    except OSError as error:
        return (-1, error.errno or 0)
    return found.st_mtime_ns, found.st_size, found.st_ino
