"""
What can be done to a request or a response, as data.

The compiler writes these, the data plane builds one callable per route from
them. A reader that meets a tag or a field it does not know must refuse the
whole snapshot: serving a route without one of its filters could open what the
filter was there to close.
"""

from typing import Final, TypeAlias, get_args

from fairway_snapshot.record import Record


class StripPrefix(Record, frozen=True, kw_only=True, tag="strip-prefix"):
    """Remove a leading path prefix, whole segments only; a path without it is left alone."""

    prefix: str
    """Absolute, without a trailing slash."""


class RewritePath(Record, frozen=True, kw_only=True, tag="rewrite-path"):
    """
    Replace the path, as HTTPRoute's ``URLRewrite`` does.

    With ``prefix`` set, only that matched prefix is replaced; without it, the
    whole path. The query is kept.
    """

    replacement: str
    prefix: str | None = None


class RewriteHost(Record, frozen=True, kw_only=True, tag="rewrite-host"):
    """Send this ``Host`` to the backend."""

    host: str


class Redirect(Record, frozen=True, kw_only=True, tag="redirect"):
    """
    Answer with a redirect; what is None stays as the request had it.

    ``prefix`` and ``path`` work as in :class:`RewritePath`. A well-known port
    of the resulting scheme is left out of the location.
    """

    status: int = 302
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    prefix: str | None = None


class HttpsRedirect(Record, frozen=True, kw_only=True, tag="https-redirect"):
    """Answer a request that came without TLS with a redirect to ``https``."""

    status: int = 308
    port: int = 443
    """Port in the location; 443 is left out."""


class Header(Record, frozen=True, kw_only=True):
    """One header line; the name is lower case."""

    name: str
    value: str


class RequestHeaders(Record, frozen=True, kw_only=True, tag="request-headers"):
    """Change the headers that the backend sees: remove, then set, then add."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()


class ResponseHeaders(Record, frozen=True, kw_only=True, tag="response-headers"):
    """Change the headers that the client sees: remove, then set, then add."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()


class DirectResponse(Record, frozen=True, kw_only=True, tag="direct-response"):
    """Answer without a backend."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


FilterSpec: TypeAlias = (
    StripPrefix
    | RewritePath
    | RewriteHost
    | Redirect
    | HttpsRedirect
    | RequestHeaders
    | ResponseHeaders
    | DirectResponse
)
"""Every filter there is. Its tags are the vocabulary that a subscriber declares."""


def filter_name(spec: FilterSpec) -> str:
    """Return the tag of a filter: its name on the wire and in metrics."""
    return _NAMES[type(spec)]


_NAMES: Final[dict[type[FilterSpec], str]] = {
    kind: kind.__struct_config__.tag for kind in get_args(FilterSpec)
}

FILTER_NAMES: Final = tuple(sorted(_NAMES.values()))
"""The filters that this version can read."""
