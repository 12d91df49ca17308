"""
Scalars of YAML, read as kubectl reads them.

That is YAML 1.1 as Go's library has it: ``yes`` and ``on`` are booleans,
``0777`` is octal, and dates and ``12:30`` are text.
"""

import re
from typing import Any

import yaml

from fairway_operator.cli.manifests.malformed import Malformed, at, shown

_TAG = "tag:yaml.org,2002:"
MAPPING_TAGS = frozenset({"!", _TAG + "map"})
SEQUENCE_TAGS = frozenset({"!", _TAG + "seq"})
_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys(("y", "Y"), True),
    **dict.fromkeys(("n", "N"), False),
}
_INTEGER = re.compile(r"([-+]?)(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.?[0-9]+)(?:[eE][-+][0-9]+)?\Z")
_NUMBER_STARTS = frozenset("0123456789+-.")
_NOT_FINITE = frozenset({".nan", ".inf", "-.inf", "+.inf"})


def resolve(event: yaml.ScalarEvent) -> Any:
    """Read a scalar as kubectl does: words of YAML 1.1, C's integers, dates as text."""
    text = event.value
    tag = event.tag
    if tag is None:
        return _plain(text, event) if event.implicit[0] else text
    if tag in ("!", _TAG + "str", _TAG + "binary", _TAG + "timestamp"):
        return text
    if tag in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
        return _plain(text, event)
    raise unknown_tag(event)


def _plain(text: str, event: yaml.ScalarEvent) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    found = _INTEGER.match(text)
    if found:
        digits = found[2].replace("_", "").lower()
        if len(digits) > 60:
            return text
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdecimal()
        number = int(digits, 8) if octal else int(digits, 0)
        return -number if found[1] == "-" else number
    if text.lower() in _NOT_FINITE:
        raise at(event, f"{text} is not a value of JSON", "write a number")
    return float(text) if _FLOAT.match(text) else text


def key_text(event: yaml.ScalarEvent) -> str:
    """Read a key of a mapping; JSON has text there, so a number or a word becomes its text."""
    value = resolve(event)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None and event.value != "":
        return "null"
    if value is None:
        raise at(event, "a key is empty", "write the key before the colon")
    return str(value)


def unknown_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> Malformed:
    """Say that a tag is not understood."""
    tag = str(event.tag).replace(_TAG, "!!")
    return at(event, f"the tag {shown(tag)} has no meaning in a Kubernetes object", "remove it")
