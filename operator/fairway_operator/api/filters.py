"""What a rule of a Route does to requests and answers."""

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from fairway_operator.api.forms import (
    ABSOLUTE,
    HEADER_VALUE,
    SUBDOMAIN,
    ApiStruct,
    Cel,
    HeaderName,
    HeaderValue,
)


class Header(ApiStruct, frozen=True, kw_only=True):
    """A header."""

    name: HeaderName
    value: HeaderValue


class HeaderEdit(ApiStruct, frozen=True, kw_only=True):
    """Changes of headers: first remove, then set, then add."""

    set: Annotated[
        tuple[Header, ...],
        Meta(description="Headers that get this value and no other.", max_length=16),
    ] = ()
    add: Annotated[
        tuple[Header, ...],
        Meta(description="Headers that get this value besides those they have.", max_length=16),
    ] = ()
    remove: Annotated[
        tuple[HeaderName, ...],
        Meta(description="Names of headers that are removed.", max_length=16),
    ] = ()


AbsolutePath: TypeAlias = Annotated[
    str, Meta(description="An absolute path.", max_length=1024, pattern=ABSOLUTE)
]


class StripPrefix(ApiStruct, frozen=True, kw_only=True):
    """Remove a leading path before the request goes to the backend."""

    prefix: Annotated[
        str,
        Meta(
            description="The path to remove, whole segments only; a path without it stays.",
            min_length=2,
            max_length=1024,
            pattern=ABSOLUTE,
        ),
    ]


class PathRewrite(ApiStruct, frozen=True, kw_only=True):
    """Another path."""

    __cel__ = (
        Cel(
            "has(self.replaceFullPath) != has(self.replacePrefixMatch)",
            "write either replaceFullPath or replacePrefixMatch",
        ),
    )

    replace_full_path: Annotated[
        AbsolutePath | None, Meta(description="Replaces the whole path; the query stays.")
    ] = None
    replace_prefix_match: Annotated[
        AbsolutePath | None,
        Meta(description="Replaces the part that matched; only with matches of type PathPrefix."),
    ] = None


class Rewrite(ApiStruct, frozen=True, kw_only=True):
    """Send the request under another path or host name."""

    __cel__ = (Cel("has(self.path) || has(self.host)", "write path, host, or both"),)

    path: Annotated[PathRewrite | None, Meta(description="The path for the backend.")] = None
    host: Annotated[
        Annotated[str, Meta(max_length=253, pattern=SUBDOMAIN)] | None,
        Meta(description="The Host header for the backend."),
    ] = None


class Scheme(StrEnum):
    """Scheme of a URL."""

    HTTP = "http"
    HTTPS = "https"


class Redirect(ApiStruct, frozen=True, kw_only=True):
    """Answer with a redirect; what is not given stays as the request had it."""

    scheme: Annotated[Scheme | None, Meta(description="Scheme of the new location.")] = None
    host: Annotated[
        Annotated[str, Meta(max_length=253, pattern=SUBDOMAIN)] | None,
        Meta(description="Host of the new location."),
    ] = None
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(description="Port of the new location; the usual one of a scheme is left out."),
    ] = None
    path: Annotated[PathRewrite | None, Meta(description="Path of the new location.")] = None
    code: Annotated[
        int,
        Meta(
            description="Status of the answer: 301, 302, 303, 307 or 308.",
            extra={"enum": [301, 302, 303, 307, 308]},
        ),
    ] = 302


class DirectResponse(ApiStruct, frozen=True, kw_only=True):
    """Answer without a backend."""

    status: Annotated[int, Meta(description="Status of the answer.", ge=200, le=599)]
    body: Annotated[str, Meta(description="Body of the answer.", max_length=16384)] = ""
    content_type: Annotated[
        str,
        Meta(
            description="Media type of the body.",
            min_length=1,
            max_length=256,
            pattern=HEADER_VALUE,
        ),
    ] = "text/plain; charset=utf-8"


class Filter(ApiStruct, frozen=True, kw_only=True):
    """One change of the request or of the response; exactly one of its fields is given."""

    __cel__ = (
        Cel(
            "[has(self.stripPrefix), has(self.rewrite), has(self.redirect),"
            " has(self.requestHeaders), has(self.responseHeaders), has(self.directResponse)]"
            ".exists_one(given, given)",
            "a filter has exactly one of stripPrefix, rewrite, redirect, requestHeaders,"
            " responseHeaders, directResponse",
        ),
    )

    strip_prefix: Annotated[
        StripPrefix | None,
        Meta(description="Remove a leading path before the request goes to the backend."),
    ] = None
    rewrite: Annotated[
        Rewrite | None, Meta(description="Send the request under another path or host name.")
    ] = None
    redirect: Annotated[
        Redirect | None,
        Meta(description="Answer with a redirect; the rule then has no backendRefs."),
    ] = None
    request_headers: Annotated[
        HeaderEdit | None, Meta(description="Change the headers that the backend gets.")
    ] = None
    response_headers: Annotated[
        HeaderEdit | None, Meta(description="Change the headers that the client gets.")
    ] = None
    direct_response: Annotated[
        DirectResponse | None,
        Meta(description="Answer without a backend; the rule then has no backendRefs."),
    ] = None
