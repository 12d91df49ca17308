"""
Manifests: files in, objects with their places out.

What the paths of a command line name (files, folders, ``-``) becomes raw
objects as the API server would hold them: lists taken apart, the namespace
filled in, kinds that Fairway does not need left out. Every object knows where
it and each of its fields stand.

The one rule: a mistake is a :class:`~fairway_operator.cli.problems.Problem`,
never an exception, and costs its document only.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from fairway_operator.cli.manifests.documents import Chunk, load, split
from fairway_operator.cli.manifests.files import list_files, read_text, shown_name
from fairway_operator.cli.manifests.kinds import kind_of
from fairway_operator.cli.manifests.malformed import Malformed
from fairway_operator.cli.manifests.positions import Path, Positions, positions
from fairway_operator.cli.problems import Place, Problem
from fairway_operator.findings import Severity
from fairway_operator.refs import CLUSTER_SCOPED, Kind, ObjectRef

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file; compares by its content and its place."""

    ref: ObjectRef
    body: Mapping[str, Any]
    file: str
    chunk: Chunk
    path: Path
    """Where in its chunk: the number of the document, then ``items`` and an index for lists."""

    def place(self, field: str = "") -> Place:
        """Return where ``field`` stands, or the nearest field around it that is written."""
        return _place(self.file, self.chunk, self.path, field)


@dataclass(frozen=True, slots=True)
class FileContent:
    """What one file holds."""

    manifests: tuple[Manifest, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether a part of the text could not be read."""
        return any(problem.is_error for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of all files; of two with one name the later counts, as with kubectl."""

    objects: Mapping[ObjectRef, Manifest]
    problems: tuple[Problem, ...]

    def of_kind(self, kind: Kind) -> Iterator[Manifest]:
        """Yield the objects of one kind, in the order of the files."""
        return (each for ref, each in self.objects.items() if ref.kind is kind)

    def place(self, ref: ObjectRef, field: str = "") -> Place | None:
        """Return where a field of an object stands; None for an object of no file."""
        manifest = self.objects.get(ref)
        return None if manifest is None else manifest.place(field)


def read(paths: Iterable[str], stdin: BinaryIO) -> Manifests:
    """Read everything that ``paths`` name."""
    files, problems = list_files(paths)
    contents = []
    for file in files:
        text = read_text(file, stdin)
        contents.append(
            FileContent(problems=(text,)) if isinstance(text, Problem) else parse(file, text)
        )
    merged = merge(contents)
    return Manifests(merged.objects, (*problems, *merged.problems))


def parse(file: str, text: str, load_chunk: Callable[[str], list[Any]] = load) -> FileContent:
    """Return the objects of a file's text; ``load_chunk`` may remember what it has read."""
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    name = shown_name(file)
    for chunk in split(text):
        try:
            documents = load_chunk(chunk.text)
        except Malformed as mistake:
            place = Place(name, chunk.line + mistake.line - 1, mistake.column)
            hint = _TEMPLATE_HINT if "{{" in chunk.text else mistake.hint
            problems.append(_error("Syntax", mistake.message, hint, place))
            continue
        for at, document in enumerate(documents):
            for found in _objects(name, chunk, document, (at,)):
                (problems if isinstance(found, Problem) else manifests).append(found)  # type: ignore[arg-type]
    return FileContent(tuple(manifests), tuple(problems))


_TEMPLATE_HINT = "render templates first: helm template CHART | fairway validate -f -"


def merge(contents: Iterable[FileContent]) -> Manifests:
    """Put files together, in order."""
    objects: dict[ObjectRef, Manifest] = {}
    problems: list[Problem] = []
    for content in contents:
        problems += content.problems
        for manifest in content.manifests:
            earlier = objects.pop(manifest.ref, None)
            if earlier is not None:
                problems.append(_twice(manifest, earlier))
            objects[manifest.ref] = manifest
    return Manifests(objects, tuple(problems))


def _objects(file: str, chunk: Chunk, value: Any, path: Path) -> Iterator[Manifest | Problem]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield _error(
            "NotAnObject",
            f"a manifest is a mapping, not {_TYPE_NAMES.get(type(value), 'this')}",
            "start with apiVersion: and kind:",
            _place(file, chunk, path, ""),
        )
        return
    kind = value.get("kind")
    items = value.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for at, item in enumerate(items):
            yield from _objects(file, chunk, _typed(item, value), (*path, "items", at))
        return
    found = _object(file, chunk, value, path)
    if found is not None:
        yield found


def _typed(item: Any, parent: Mapping[str, Any]) -> Any:
    """Fill in what the items of a typed list (``IngressList``) leave out."""
    kind = parent["kind"].removesuffix("List")
    if not isinstance(item, dict) or not kind or "kind" in item:
        return item
    return {"apiVersion": parent.get("apiVersion"), "kind": kind, **item}


def _object(
    file: str, chunk: Chunk, body: Mapping[str, Any], path: Path
) -> Manifest | Problem | None:
    def mistake(field: str, message: str, hint: str, reason: str = "InvalidObject") -> Problem:
        return _error(reason, message, hint, _place(file, chunk, path, field), field=field)

    try:
        kind = kind_of(body.get("apiVersion"), body.get("kind"))
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        return mistake("", message, hint, "UnknownVersion")
    if kind is None:
        return None
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        return mistake("metadata", f"the {kind} has none", "write metadata: {name: ...}")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        return mistake("metadata.name", f"the {kind} has no name", "write a text such as my-name")
    if namespace is not None and not isinstance(namespace, str):
        return mistake("metadata.namespace", "is not text", "put it in quotes")
    if kind in CLUSTER_SCOPED:
        namespace = ""
    elif not namespace:
        namespace = DEFAULT_NAMESPACE
    held = {**body, "metadata": {**metadata, "namespace": namespace}}
    if not namespace:
        del held["metadata"]["namespace"]
    return Manifest(ObjectRef(kind, namespace, name), held, file, chunk, path)


_TYPE_NAMES: dict[type, str] = {
    str: "a text",
    list: "a sequence",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def _error(reason: str, message: str, hint: str, place: Place, *, field: str = "") -> Problem:
    return Problem(
        severity=Severity.ERROR,
        reason=reason,
        message=message,
        hint=hint,
        place=place,
        field=field,
    )


def _twice(later: Manifest, earlier: Manifest) -> Problem:
    return Problem(
        severity=Severity.WARNING,
        reason="Duplicate",
        message=f"stands at {earlier.place()} as well; this later one counts",
        hint="remove one of them, or rename it",
        place=later.place(),
        object=later.ref,
    )


def _place(file: str, chunk: Chunk, path: Path, field: str) -> Place:
    found = _positions(chunk.text)
    at = (*path, *_segments(field))
    while at and at not in found:
        at = at[:-1]
    line, column = found.get(at, (1, 1))
    return Place(file, chunk.line + line - 1, column)


def _positions(text: str) -> Positions:
    if len(text) > _LARGEST_TEXT:
        return {}
    return _of_small(text) if len(text) <= _SMALL_TEXT else _of_large(text)


_LARGEST_TEXT = 4 * 1024 * 1024
"""Past this, positions would take more memory than the objects."""
_SMALL_TEXT = 16 * 1024
# ``fairway dev`` asks again after each edit, of every document that has something to report.
_of_small = functools.lru_cache(maxsize=8192)(positions)
_of_large = functools.lru_cache(maxsize=8)(positions)


_SEGMENT = re.compile(r"\[(\d+)\]|\[([^\]]*)\]|([^.\[\]]+)")


def _segments(field: str) -> Iterator[str | int]:
    """Take ``spec.rules[0].host`` apart; what is in brackets and no number is a key."""
    for index, key, name in _SEGMENT.findall(field):
        yield int(index) if index else key or name
