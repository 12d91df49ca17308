"""
Objects of the API server as typed values.

:func:`decode` is the only way in. What users write may be of any type, so it
never raises for user input: a part that makes no sense becomes a finding on
the object and is left out, an object that makes no sense is
:class:`Undecodable`. Values keep what the compiler needs and nothing else.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import Kind, ObjectRef

__all__ = ["Kind", "ObjectRef", "Resource", "Undecodable", "decode"]


class Undecodable(msgspec.Struct, frozen=True, kw_only=True):
    """An object that cannot be read at all, and why."""

    ref: ObjectRef
    """Name and namespace are empty strings where the body has none."""
    findings: tuple[Finding, ...]


Resource: TypeAlias = Any


def decode(kind: Kind, body: Mapping[str, Any]) -> Resource | Undecodable:
    """
    Return the typed value of ``body``, the object as the API server sends it.

    Never raises for what a user can write, of whatever JSON type.
    """
    raise NotImplementedError
