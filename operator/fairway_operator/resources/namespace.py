"""Namespace (``v1``)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Reader


class Namespace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One namespace."""

    ref: ObjectRef
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> Namespace:
    """Return the namespace."""
    del body
    return Namespace(ref=reader.ref, problems=tuple(reader.findings))
