"""Which requests a rule of a Route is for."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from fairway_operator.api.forms import PRINTABLE, ApiStruct, Cel, HeaderName


class PathType(StrEnum):
    """How a path is compared."""

    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"
    REGULAR_EXPRESSION = "RegularExpression"


class ValueType(StrEnum):
    """How a header or a query parameter is compared."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"
    PRESENT = "Present"


class Method(StrEnum):
    """A request method."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    CONNECT = "CONNECT"
    OPTIONS = "OPTIONS"
    TRACE = "TRACE"
    PATCH = "PATCH"


class PathMatch(ApiStruct, frozen=True, kw_only=True):
    """Condition on the path of a request."""

    __cel__ = (
        Cel(
            "self.type == 'RegularExpression' || (self.value.startsWith('/') &&"
            " !self.value.contains('//') && !self.value.contains(' '))",
            "a path starts with a slash and has no empty segments and no spaces",
        ),
        Cel(
            "self.type != 'RegularExpression' || size(self.value) <= 512",
            "a regular expression has at most 512 characters",
        ),
    )

    type: Annotated[
        PathType,
        Meta(
            description="How the path is compared. Exact: the same path. PathPrefix: whole"
            " segments, so that /shop matches /shop and /shop/cart but not /shopping."
            " RegularExpression: RE2 syntax, must match the whole path."
        ),
    ] = PathType.PATH_PREFIX
    value: Annotated[
        str,
        Meta(
            description="The path, or the expression. Paths are compared after dot segments"
            " are removed; the query is no part of them.",
            min_length=1,
            max_length=1024,
            pattern=PRINTABLE,
        ),
    ] = "/"


class HeaderMatch(ApiStruct, frozen=True, kw_only=True):
    """Condition on a header of a request."""

    name: HeaderName
    type: Annotated[
        ValueType,
        Meta(
            description="How the value is compared. Exact: the same value. RegularExpression:"
            " RE2 syntax, must match the whole value. Present: any value."
        ),
    ] = ValueType.EXACT
    value: Annotated[
        str,
        Meta(description="The value, or the expression; not for Present.", max_length=4096),
    ] = ""


class QueryMatch(ApiStruct, frozen=True, kw_only=True):
    """Condition on a parameter of the query."""

    name: Annotated[str, Meta(description="Name of the parameter.", min_length=1, max_length=256)]
    type: Annotated[
        ValueType,
        Meta(
            description="How the value is compared. Exact: the same value. RegularExpression:"
            " RE2 syntax, must match the whole value. Present: any value."
        ),
    ] = ValueType.EXACT
    value: Annotated[
        str,
        Meta(description="The value, or the expression; not for Present.", max_length=1024),
    ] = ""


class Match(ApiStruct, frozen=True, kw_only=True):
    """Conditions on a request; all of them must hold."""

    path: Annotated[PathMatch, Meta(description="Condition on the path; without it, any path.")] = (
        PathMatch()
    )
    method: Annotated[
        Method | None, Meta(description="The request's method; without it, any method.")
    ] = None
    headers: Annotated[
        tuple[HeaderMatch, ...],
        Meta(description="Conditions on headers; all must hold.", max_length=16),
    ] = ()
    query_params: Annotated[
        tuple[QueryMatch, ...],
        Meta(description="Conditions on parameters of the query; all must hold.", max_length=16),
    ] = ()
