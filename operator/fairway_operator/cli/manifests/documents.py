"""
YAML and JSON text to plain values, written by people who may be wrong or hostile.

PyYAML's own constructors are not used. They recurse (a file of ten thousand
brackets ends the process), expand aliases without limit, let the last of two
equal keys win, and turn dates and ``12:30`` into what kubectl reads as text.
This builder goes over the events of libyaml with a stack of its own and reads
scalars as kubectl does. Documents are told apart as kubectl does it, by lines
that start with ``---``, so that a mistake in one costs no other.

The one rule: nothing a file contains raises anything but :class:`Malformed`.
"""

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from fairway_operator.cli.manifests.malformed import (
    Malformed,
    at,
    of_reader,
    of_syntax,
    position,
    shown,
)
from fairway_operator.cli.manifests.scalars import (
    MAPPING_TAGS,
    SEQUENCE_TAGS,
    key_text,
    resolve,
    unknown_tag,
)

MAX_DEPTH = 100
"""Nesting of mappings and sequences; Kubernetes objects stay under 30."""

MAX_ALIASED_NODES = 100_000
"""Values that aliases may add to a document: far above any real file, far below a bomb."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text between two ``---`` lines."""

    text: str
    line: int
    """Line of the file that its first line is; counts from 1."""


def split(text: str) -> list[Chunk]:
    """Cut a file into its documents; JSON comes back as one chunk."""
    text = text.removeprefix("\ufeff")
    if looks_like_json(text):
        return [Chunk(text, 1)]
    cuts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    chunks = []
    line = 1
    for start, end in itertools.pairwise(cuts):
        part = text[start:end]
        if _CONTENT.search(part):
            chunks.append(Chunk(part, line))
        line += part.count("\n")
    return chunks


def looks_like_json(text: str) -> bool:
    """Tell JSON from YAML by the first character, as kubectl does."""
    return text[:1000].lstrip()[:1] == "{"


def load(text: str) -> list[Any]:
    """Return the values of a chunk; raises Malformed."""
    if looks_like_json(text):
        values = _load_json(text)
        if values is not None:
            return values
    return list(_Builder().build(text))


_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
# A chunk counts when a line of it is neither a comment, a directive nor a marker.
_CONTENT = re.compile(
    r"^(?!---[ \t\r]*(?:#.*)?$|\.\.\.[ \t\r]*$|%|[ \t\r]*(?:#.*)?$)", re.MULTILINE
)


def _load_json(text: str) -> list[Any] | None:
    """Read one or several JSON values; None leaves the text, and saying what is wrong, to YAML."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    values = []
    at = 0
    try:
        while found := _NOT_BLANK.search(text, at):
            value, at = decoder.raw_decode(text, found.start())
            values.append(value)
        if "\\u" in text:
            json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Malformed("a \\u escape is half of a surrogate pair", "write both halves") from None
    except (ValueError, RecursionError):
        return None
    return None if _depth(values) > MAX_DEPTH else values


_NOT_BLANK = re.compile(r"[^ \t\r\n]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _twice(key: str, line: int, column: int) -> Malformed:
    return Malformed(
        f"the key {shown(key)} stands twice in one mapping",
        "remove one of them; most tools would silently take the last",
        line=line,
        column=column,
    )


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_TOO_DEEP_HINT = "no Kubernetes object is; look for brackets that are not closed"


def _depth(value: Any) -> int:
    deepest = 0
    left = [(value, 1)]
    while left:
        at, depth = left.pop()
        deepest = max(deepest, depth)
        children = at.values() if isinstance(at, dict) else at
        left += [(child, depth + 1) for child in children if isinstance(child, dict | list)]
    return deepest


@dataclass(slots=True)
class _Frame:
    """A mapping or a sequence that is not closed yet."""

    container: Any
    anchor: str | None
    key: str | None = None
    """The key whose value comes next; None while a key is expected."""
    merges: list[dict[str, Any]] = field(default_factory=list)
    size: int = 1
    """Values in here, those behind aliases counted each time."""


_MERGE = "<<"
_UNFINISHED = object()


class _Builder:
    """Events of one chunk to values."""

    def __init__(self) -> None:
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0
        self._documents: list[Any] = []

    def build(self, text: str) -> list[Any]:
        """Return the values of the documents; raises Malformed."""
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                self._on_event(event)
        except yaml.MarkedYAMLError as error:
            raise of_syntax(error) from None
        except yaml.YAMLError as error:
            raise of_reader(text, error) from None
        return self._documents

    def _on_event(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._on_scalar(event)
            case yaml.MappingStartEvent():
                self._open({}, event, MAPPING_TAGS)
            case yaml.SequenceStartEvent():
                self._open([], event, SEQUENCE_TAGS)
            case yaml.MappingEndEvent():
                frame = self._stack.pop()
                for merged in frame.merges:
                    for key, value in merged.items():
                        frame.container.setdefault(key, value)
                self._close(frame, event)
            case yaml.SequenceEndEvent():
                self._close(self._stack.pop(), event)
            case yaml.AliasEvent():
                self._on_alias(event)
            case yaml.DocumentStartEvent():
                self._anchors.clear()
                self._aliased = 0

    def _on_scalar(self, event: yaml.ScalarEvent) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is None and isinstance(frame.container, dict):
            self._on_key(frame, event)
            return
        value = resolve(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, 1, event)

    def _on_key(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        key = key_text(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (key, 1)
        merge = key == _MERGE and event.implicit[0]
        if key in frame.container and not merge:
            raise _twice(key, *position(event))
        frame.key = key
        if not merge:
            # Taken now, so that a later equal key is seen, and the order is that of the file.
            frame.container[key] = None

    def _open(self, container: Any, event: yaml.CollectionStartEvent, tags: frozenset[str]) -> None:
        if event.tag is not None and event.tag not in tags:
            raise unknown_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            raise at(event, _TOO_DEEP, _TOO_DEEP_HINT)
        if self._stack and self._stack[-1].key is None and isinstance(self._top, dict):
            raise at(
                event, "a mapping or a sequence stands where a key should", "write the key as text"
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = (_UNFINISHED, 0)
        self._stack.append(_Frame(container, event.anchor))

    @property
    def _top(self) -> Any:
        return self._stack[-1].container

    def _close(self, frame: _Frame, event: yaml.Event) -> None:
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.container, frame.size)
        self._add(frame.container, frame.size, event)

    def _on_alias(self, event: yaml.AliasEvent) -> None:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            raise at(event, f"no anchor &{event.anchor} stands before this alias", "")
        value, size = found
        if value is _UNFINISHED:
            raise at(event, f"the anchor &{event.anchor} holds itself", "write the value out")
        self._aliased += size
        if self._aliased > MAX_ALIASED_NODES:
            raise at(
                event,
                f"aliases expand to more than {MAX_ALIASED_NODES} values",
                "write the values out; an alias of aliases grows without bounds",
            )
        self._add(value, size, event)

    def _add(self, value: Any, size: int, event: yaml.Event) -> None:
        if not self._stack:
            self._documents.append(value)
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.container, list):
            frame.container.append(value)
        elif frame.key is None:
            raise at(event, "an alias stands where a key should", "write the key as text")
        elif frame.key == _MERGE and _MERGE not in frame.container:
            frame.merges += _merged(value, event)
            frame.key = None
        else:
            frame.container[frame.key] = value
            frame.key = None


def _merged(value: Any, event: yaml.Event) -> list[dict[str, Any]]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in values):
        raise at(event, "<< merges mappings only", "write an alias of a mapping")
    return values
