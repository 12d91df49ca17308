"""
What a field of a Route takes, for messages to its author.

The schema of the CustomResourceDefinition is asked, so a message names the same
values and says the same words as ``kubectl explain``.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from fairway_operator.api.crd import Schema, crd
from fairway_operator.api.forms import FORMS

_STEP = re.compile(r"\.(\w+)|\[([0-9]+)\]")


def values_of(path: str) -> str:
    """Return the values that the field at ``path`` (as ``.rules[0].name``) takes, or nothing."""
    values = [str(value) for value in _schema_at(path).get("enum", ())]
    return " or ".join(part for part in (", ".join(values[:-1]), *values[-1:]) if part)


def form_of(path: str) -> str:
    """Return in what form the field at ``path`` is written, or nothing."""
    return FORMS.get(_schema_at(path).get("pattern", ""), "")


def fields_like(path: str, unknown: str) -> str:
    """Return the field of the object at ``path`` that was meant, or else all of its fields."""
    known = sorted(_schema_at(path).get("properties", ()))
    return next(iter(get_close_matches(unknown[:80], known, n=1)), ", ".join(known))


def _schema_at(path: str) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = _spec()
    for step in _STEP.finditer(path):
        if step[1] is None:
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(step[1], {})
    return schema


def value_at(spec: object, path: str) -> object:
    """Return what stands at ``path``; None where nothing does."""
    value = spec
    for step in _STEP.finditer(path):
        if isinstance(value, Mapping):
            value = value.get(step[1])
        elif isinstance(value, list | tuple) and step[2] and int(step[2]) < len(value):
            value = value[int(step[2])]
        else:
            return None
    return value


@lru_cache(maxsize=1)
def _spec() -> Schema:
    (version,) = crd()["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found
