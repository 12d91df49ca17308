"""
Label selectors, as ``kubectl -l`` takes them.

The API server applies the selector of the settings to what is listed and
watched. What comes to us by another way (a review) is held to the same one
here, so that both agree on which objects are ours.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Operator(StrEnum):
    """How a label is compared."""

    IN = "in"
    """One of the values; also ``=`` and ``==``."""
    NOT_IN = "notin"
    """None of the values, or absent; also ``!=``."""
    EXISTS = "exists"
    ABSENT = "!"


class Requirement(NamedTuple):
    """One condition on one label."""

    key: str
    operator: Operator
    values: frozenset[str]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with these labels satisfies it."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.ABSENT:
                return value is None


class Selector(NamedTuple):
    """Conditions that must all hold; without any, every object is selected."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with these labels is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)


EVERYTHING: Final = Selector()

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9][-a-z0-9.]{{0,252}}/)?{_NAME}"
_VALUES = rf"\(\s*(?P<values>(?:{_NAME})?(?:\s*,\s*(?:{_NAME})?)*)\s*\)"
_REQUIREMENT = re.compile(
    rf"\s*(?:(?P<absent>!\s*{_KEY})"
    rf"|(?P<key>{_KEY})(?:\s*(?P<equal>==|=|!=)\s*(?P<value>{_NAME})?"
    rf"|\s+(?P<set>in|notin)\s+{_VALUES})?)\s*(?:,|\Z)"
)
_MAX_LENGTH = 4096


def parse_selector(text: str) -> Selector:
    """
    Return the selector of ``team=shop,env in (live, next),!internal``.

    Raises ValueError, with what to write, for what the API server would refuse.
    """
    found = []
    at = 0
    while at < len(text):
        matched = _REQUIREMENT.match(text, at) if len(text) <= _MAX_LENGTH else None
        if matched is None:
            raise ValueError(
                f"{text[at : at + 40]!r} is no label selector; write it as team=shop,env in (a, b)"
            )
        found.append(_requirement(matched))
        at = matched.end()
    if text and text.rstrip().endswith(","):
        raise ValueError(f"{text[-40:]!r} is no label selector; leave the last comma out")
    return Selector(tuple(found))


def _requirement(matched: "re.Match[str]") -> Requirement:
    if matched["absent"]:
        return Requirement(matched["absent"][1:].strip(), Operator.ABSENT, frozenset())
    key = matched["key"]
    if matched["set"]:
        values = frozenset(part.strip() for part in matched["values"].split(","))
        return Requirement(key, Operator(matched["set"]), values)
    if matched["equal"]:
        operator = Operator.NOT_IN if matched["equal"] == "!=" else Operator.IN
        return Requirement(key, operator, frozenset({matched["value"] or ""}))
    return Requirement(key, Operator.EXISTS, frozenset())
