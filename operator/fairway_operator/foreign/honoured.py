"""Annotations of ingress-nginx that mean here what they mean there."""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from fairway_operator.foreign import values
from fairway_operator.foreign.adoption import NGINX, Adoption, Read
from fairway_operator.headers import header
from fairway_operator.hosts import parse_host
from fairway_operator.targets import sent_host
from fairway_snapshot.filters import Redirect, RequestHeaders, RewriteHost

_MOST_ALIASES: Final = 16


def setting(ours: str, translate: Callable[[str], str], *further: str) -> Read:
    """Take the value for annotations of ours."""

    def take(adoption: Adoption, name: str, value: str) -> None:
        for each in (ours, *further):
            adoption.set(name, each, translate(value.strip()))

    return take


def ssl_redirect(adoption: Adoption, name: str, value: str) -> None:
    """Redirect to https, or not; to force it goes before."""
    if values.flag(adoption.given.get(f"{NGINX}force-ssl-redirect", "false")) == "false":
        adoption.set(name, "ssl-redirect", values.flag(value))


def force_redirect(adoption: Adoption, name: str, value: str) -> None:
    """Redirect to https; hosts without TLS are told of when they are known."""
    if values.flag(value) == "true":
        adoption.set(name, "ssl-redirect", "true")
        adoption.forces_tls = True


def next_upstream(adoption: Adoption, name: str, value: str) -> None:
    """Take what is tried again."""
    words = value.split()
    if "off" in words:
        adoption.set(name, "retry-attempts", "0")
        return
    codes = [word.removeprefix("http_") for word in words if re.fullmatch(r"http_[45]\d\d", word)]
    if codes:
        adoption.set(name, "retry-codes", ",".join(codes))
    if "non_idempotent" in words:
        adoption.warn(
            name,
            "a request that may change something (POST) is not sent twice",
            "leave non_idempotent out",
        )


def tries(adoption: Adoption, name: str, value: str) -> None:
    """Take how often in all."""
    number = int(values.whole(value))
    if number and adoption.given.get(f"{NGINX}proxy-next-upstream") != "off":
        adoption.set(name, "retry-attempts", str(min(number - 1, 10)))


def alias(adoption: Adoption, name: str, value: str) -> None:
    """Take further names of the first host."""
    names = list(dict.fromkeys(re.split(r"[\s,]+", value.strip(" ,\n"))))
    if len(names) > _MOST_ALIASES:
        raise ValueError(
            f"{len(names)} further names of a host, {_MOST_ALIASES} at most; write a rule for each"
        )
    for text in names:
        try:
            adoption.aliases.append(parse_host(text.lower()))
        except ValueError as error:
            adoption.warn(
                name, f"{error}; requests for it find no route", "write a rule for each host"
            )


def upstream_host(adoption: Adoption, _name: str, value: str) -> None:
    """Send this Host to the backend."""
    adoption.filters.append(RewriteHost(host=sent_host(value.strip().lower())))


def forwarded_prefix(adoption: Adoption, _name: str, value: str) -> None:
    """Send the prefix to the backend."""
    if value.strip().lower() in ("", "true", "false"):
        raise ValueError(f"{value[:40]!r} is no path; write it as /name")
    adoption.filters.append(RequestHeaders(set=(header("x-forwarded-prefix", value.strip()),)))


def redirect(status: int) -> Read:
    """Answer with a redirect to a URL that is fixed, or ends in the path of the request."""

    def take(adoption: Adoption, name: str, value: str) -> None:
        given = None if status == values.FOUND else adoption.given.get(f"{name}-code")
        try:
            adoption.redirect = _redirected(value.strip(), values.redirect_code(given, status))
        except ValueError as error:
            adoption.fail(
                name,
                f"{error}: all requests of this Ingress answer 503",
                "write a Route with a redirect filter",
            )

    return take


def redirect_code(_adoption: Adoption, _name: str, _value: str) -> None:
    """Do nothing: it is read with the redirect."""


def _redirected(text: str, status: int) -> Redirect:
    url = text.removesuffix("$request_uri")
    keeps_path = url != text
    parts = urlsplit(url) if values.is_plain_url(url) else None
    if parts is None or (keeps_path and parts.path not in ("", "/")):
        raise ValueError(f"{text[:80]!r} is not a URL that a redirect can have here")
    return Redirect(
        status=status,
        scheme=parts.scheme,
        host=(parts.hostname or "").lower(),
        port=parts.port,
        path=None if keeps_path else parts.path or "/",
    )


def rewrite_target(adoption: Adoption, _name: str, value: str) -> None:
    """Take what replaces paths."""
    adoption.rewrite_target = value.strip() or None


def use_regex(adoption: Adoption, _name: str, value: str) -> None:
    """Take paths for regular expressions."""
    adoption.has_patterns = values.flag(value) == "true"
