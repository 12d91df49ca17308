"""
Filters of a Route to filters of the snapshot.

A filter that cannot be read makes its whole rule answer 503: a request must
not pass without one of its filters.
"""

from collections.abc import Iterator

from fairway_operator.api.filters import Filter, Header, PathRewrite, Redirect, Rewrite
from fairway_operator.headers import header, header_name
from fairway_operator.targets import normal_path, sent_host
from fairway_snapshot import filters as spec
from fairway_snapshot.filters import FilterSpec
from fairway_snapshot.model import PathKind, PathMatch


class BadFilter(ValueError):  # noqa: N818 - named for the user's mistake that it reports
    """A filter that cannot be; the message is for its author, the field is within the filter."""

    def __init__(self, field: str, message: str) -> None:
        problem, _, self.hint = message.partition("; ")
        super().__init__(problem)
        self.field = field


def compile_filter(given: Filter, path: PathMatch) -> Iterator[FilterSpec]:
    """Yield what one filter comes to, for one path of its rule; raises :class:`BadFilter`."""
    chosen = [name for name in given.__struct_fields__ if getattr(given, name) is not None]
    if len(chosen) != 1:
        raise BadFilter("", f"a filter with {len(chosen)} fields; write exactly one in each")
    if given.strip_prefix is not None:
        prefix = given.strip_prefix.prefix.rstrip("/")
        _check_path(prefix or "/", "stripPrefix.prefix")
        if not prefix:
            raise BadFilter("stripPrefix.prefix", "the prefix strips nothing; write /name")
        yield spec.StripPrefix(prefix=prefix)
    if given.rewrite is not None:
        yield from _rewrite(given.rewrite, path)
    if given.redirect is not None:
        yield _redirect(given.redirect, path)
    if given.request_headers is not None:
        edit, field = given.request_headers, "requestHeaders"
        yield spec.RequestHeaders(
            set=_once(edit.set, f"{field}.set"),
            add=tuple(_each(edit.add, f"{field}.add")),
            remove=_names(edit.remove, f"{field}.remove"),
        )
    if given.response_headers is not None:
        edit, field = given.response_headers, "responseHeaders"
        yield spec.ResponseHeaders(
            set=_once(edit.set, f"{field}.set"),
            add=tuple(_each(edit.add, f"{field}.add")),
            remove=_names(edit.remove, f"{field}.remove"),
        )
    if given.direct_response is not None:
        response = given.direct_response
        if response.body and response.status in (204, 205, 304):
            raise BadFilter(
                "directResponse.body", f"an answer with status {response.status} has no body;"
                " leave the body out"
            )  # fmt: skip
        yield spec.DirectResponse(
            status=response.status, body=response.body, content_type=response.content_type
        )


def answers(given: tuple[Filter, ...]) -> bool:
    """Tell whether the filters answer on their own."""
    return any(each.redirect is not None or each.direct_response is not None for each in given)


def _rewrite(rewrite: Rewrite, path: PathMatch) -> Iterator[FilterSpec]:
    if rewrite.path is None and rewrite.host is None:
        raise BadFilter("rewrite", "a rewrite of nothing; write path, host, or both")
    if rewrite.path is not None:
        replacement, prefix = _replacement(rewrite.path, path, "rewrite.path")
        yield spec.RewritePath(replacement=replacement, prefix=prefix)
    if rewrite.host is not None:
        _check_host(rewrite.host, "rewrite.host")
        yield spec.RewriteHost(host=rewrite.host)


def _redirect(redirect: Redirect, path: PathMatch) -> spec.Redirect:
    if redirect.code not in (301, 302, 303, 307, 308):
        raise BadFilter(
            "redirect.code", f"{redirect.code} is no redirect; write 301, 302, 303, 307 or 308"
        )
    if redirect.host is not None:
        _check_host(redirect.host, "redirect.host")
    replacement: str | None = None
    prefix: str | None = None
    if redirect.path is not None:
        replacement, prefix = _replacement(redirect.path, path, "redirect.path")
    return spec.Redirect(
        status=redirect.code,
        scheme=None if redirect.scheme is None else redirect.scheme.value,
        host=redirect.host,
        port=redirect.port,
        path=replacement,
        prefix=prefix,
    )


def _replacement(rewrite: PathRewrite, path: PathMatch, field: str) -> tuple[str, str | None]:
    full, partial = rewrite.replace_full_path, rewrite.replace_prefix_match
    if (full is None) == (partial is None):
        raise BadFilter(
            field, "a path is replaced once; write either replaceFullPath or replacePrefixMatch"
        )
    if full is not None:
        _check_path(full, f"{field}.replaceFullPath")
        return full, None
    assert partial is not None
    _check_path(partial, f"{field}.replacePrefixMatch")
    if path.kind is not PathKind.PREFIX:
        raise BadFilter(
            f"{field}.replacePrefixMatch",
            f"a path of type {path.kind} has no prefix; write replaceFullPath",
        )
    return partial, path.value


def _check_path(text: str, field: str) -> None:
    if "?" in text or "#" in text:
        raise BadFilter(field, f"{text[:40]!r} has more than a path; leave query and fragment out")
    try:
        normal_path(text)
    except ValueError as error:
        raise BadFilter(field, f"{error}; write /name") from error


def _check_host(text: str, field: str) -> None:
    try:
        sent_host(text)
    except ValueError as error:
        raise BadFilter(field, f"{error}; write a name such as shop.example") from error


def _once(given: tuple[Header, ...], field: str) -> tuple[spec.Header, ...]:
    """Return headers by name: they are set one by one, so their order has no meaning."""
    found = {each.name: each for each in _each(given, field)}
    if len(found) < len(given):
        raise BadFilter(field, "a header is set twice; write it once")
    return tuple(found[name] for name in sorted(found))


def _each(given: tuple[Header, ...], field: str) -> Iterator[spec.Header]:
    for each in given:
        try:
            yield header(each.name, each.value)
        except ValueError as error:
            raise BadFilter(field, str(error)) from error


def _names(given: tuple[str, ...], field: str) -> tuple[str, ...]:
    try:
        return tuple(sorted({header_name(name) for name in given}))
    except ValueError as error:
        raise BadFilter(field, str(error)) from error
