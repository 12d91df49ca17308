"""
Where a value stands in its text.

Made only for documents that have something to report, so that reading ten
thousand good objects does not pay for it.
"""

import yaml

from fairway_operator.cli.manifests.malformed import Malformed, position
from fairway_operator.cli.manifests.scalars import key_text

Path = tuple[str | int, ...]
"""Keys and indexes that lead to a value; the first is the number of the document in its chunk."""

Positions = dict[Path, tuple[int, int]]
"""Line and column, from 1: of the key for what a mapping holds, else of the value itself."""


def positions(text: str) -> Positions:
    """
    Return the positions of everything in a chunk that ``load`` has read.

    JSON that is not YAML as well has none, or only those of its beginning.
    """
    walk = _Walk()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            walk.on_event(event)
    except (yaml.YAMLError, Malformed):
        return walk.found
    return walk.found


class _Walk:
    """The path of the current event, as a stack of open containers; an alias is a leaf here."""

    def __init__(self) -> None:
        self.found: Positions = {}
        self._paths: list[Path] = []
        self._next: list[str | int | None] = []
        """Of each container: the index of the next item, or the key whose value comes next."""
        self._document = -1

    def on_event(self, event: yaml.Event) -> None:
        """Note where the value that starts here stands."""
        match event:
            case yaml.DocumentStartEvent():
                self._document += 1
            case yaml.MappingStartEvent():
                self._paths.append(self._value(event))
                self._next.append(None)
            case yaml.SequenceStartEvent():
                self._paths.append(self._value(event))
                self._next.append(0)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._paths.pop()
                self._next.pop()
            case yaml.ScalarEvent() if self._next and self._next[-1] is None:
                self._next[-1] = key = key_text(event)
                self.found[*self._paths[-1], key] = position(event)
            case yaml.ScalarEvent() | yaml.AliasEvent():
                self._value(event)

    def _value(self, event: yaml.Event) -> Path:
        if not self._paths:
            path: Path = (self._document,)
            self.found[path] = position(event)
            return path
        at = self._next[-1]
        if isinstance(at, int):
            self._next[-1] = at + 1
            path = (*self._paths[-1], at)
            self.found[path] = position(event)
            return path
        self._next[-1] = None
        return (*self._paths[-1], at or "")
