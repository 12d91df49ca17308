"""
Texts of a Route, and the base of its structs.

The one rule: a pattern says the same to the API server and here, and has words
for who must write it.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

# Python's $ also matches before a last newline, so ends are written \Z; the schema says $ for it.
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
HOST = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z"
HEADER_VALUE = r"^[\x20-\x7e\t]*\Z"
ABSOLUTE = r"^/[\x21-\x7e]*\Z"
PRINTABLE = r"^[\x20-\x7e]*\Z"
DURATION = r"^([0-9]{1,5}(h|m|s|ms)){1,4}\Z"

FORMS: Mapping[str, str] = {
    pattern.replace(r"\Z", "$"): words
    for pattern, words in {
        LABEL: "lower-case letters, digits and dashes, such as shop-2",
        SUBDOMAIN: "a name such as shop.example, in lower case",
        HOST: "a name such as shop.example or *.shop.example, in lower case",
        HEADER_NAME: "the name of a header, such as x-tier",
        HEADER_VALUE: "one line of printable ASCII",
        ABSOLUTE: "an absolute path such as /shop, without blanks",
        PRINTABLE: "printable ASCII",
        DURATION: "a duration such as 500ms, 30s or 1m30s; 0s is no limit",
    }.items()
}
"""What to write where a pattern of the schema does not match, in the schema's writing."""

Host: TypeAlias = Annotated[
    str,
    Meta(
        description="A host name, or *. and a host name for all names one label longer.",
        min_length=1,
        max_length=253,
        pattern=HOST,
    ),
]
HeaderName: TypeAlias = Annotated[
    str,
    Meta(
        description="Name of the header; case does not matter.",
        min_length=1,
        max_length=256,
        pattern=HEADER_NAME,
    ),
]
HeaderValue: TypeAlias = Annotated[
    str,
    Meta(
        description="Value of the header, in printable ASCII.",
        max_length=4096,
        pattern=HEADER_VALUE,
    ),
]
Duration: TypeAlias = Annotated[
    str,
    Meta(
        description="A duration such as 500ms, 30s or 1m30s; 0s means no limit.",
        max_length=24,
        pattern=DURATION,
    ),
]


class Cel(NamedTuple):
    """A rule that the API server checks, and what it says when the rule does not hold."""

    rule: str
    message: str


class ApiStruct(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Base of the structs of the API; an unknown field is refused, not ignored."""

    __cel__: ClassVar[tuple[Cel, ...]] = ()
