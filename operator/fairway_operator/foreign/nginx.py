"""
The annotations of ingress-nginx, one row each.

A row says how its annotations are read, and for people what becomes of them
(``docs/ingress-nginx.md`` is made of it). Names and meanings are those of its
user guide, ``nginx-configuration/annotations.md``.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, NamedTuple

from fairway_operator.foreign import guards, honoured, missing, values
from fairway_operator.foreign.adoption import NGINX, Adoption, Read
from fairway_operator.foreign.trifles import TRIFLES

_MOST_GUESSES: Final = 8
"""Of what was meant by a name; each takes a millisecond."""


class Row(NamedTuple):
    """Annotations with one meaning."""

    names: tuple[str, ...]
    """Without the prefix."""
    read: Read
    becomes: str
    """For people."""


def read(adoption: Adoption, name: str, value: str) -> None:
    """Read one annotation; ``name`` comes without the prefix."""
    row = TABLE.get(name)
    if row is None:
        adoption.unknown += 1
        few = adoption.unknown <= _MOST_GUESSES
        close = get_close_matches(name[:80], TABLE, n=1, cutoff=0.8) if few else ()
        adoption.warn(
            NGINX + name,
            "ingress-nginx has no annotation of this name; it has no effect",
            f"write {NGINX}{close[0]}" if close else "correct the name, or leave it out",
        )
        return
    try:
        row.read(adoption, NGINX + name, value)
    except ValueError as error:
        problem, _, hint = str(error).partition("; ")
        adoption.warn(
            NGINX + name,
            f"{problem}; the annotation has no effect",
            hint or "correct the value, or leave the annotation out",
        )


_LIMIT_HINT: Final = (
    "bound them together by fairway.dev/max-requests on the Service, or limit clients in the"
    " backend"
)

ROWS: Final = (
    Row(
        ("ssl-redirect",),
        honoured.ssl_redirect,
        "`fairway.dev/ssl-redirect`",
    ),
    Row(
        ("force-ssl-redirect",),
        honoured.force_redirect,
        "`fairway.dev/ssl-redirect`; a host without TLS is not redirected, and is a warning",
    ),
    Row(
        ("proxy-body-size",),
        honoured.setting("max-body-size", values.size),
        "`fairway.dev/max-body-size`",
    ),
    Row(
        ("proxy-connect-timeout",),
        honoured.setting("connect-timeout", values.seconds),
        "`fairway.dev/connect-timeout`",
    ),
    Row(
        ("proxy-read-timeout",),
        honoured.setting("backend-request-timeout", values.seconds, "idle-timeout"),
        "`fairway.dev/backend-request-timeout` and `fairway.dev/idle-timeout`",
    ),
    Row(
        ("proxy-next-upstream",),
        honoured.next_upstream,
        '`off` is `fairway.dev/retry-attempts: "0"`; `http_503` and its like are'
        " `fairway.dev/retry-codes`; `non_idempotent` is a warning",
    ),
    Row(
        ("proxy-next-upstream-tries",),
        honoured.tries,
        "`fairway.dev/retry-attempts`, one less",
    ),
    Row(
        ("use-regex",),
        honoured.use_regex,
        "paths with signs such as `(`, `*` or `$` are regular expressions (RE2) of this object,"
        " matched from the start in any case; plain paths stay what they are",
    ),
    Row(
        ("rewrite-target",),
        honoured.rewrite_target,
        "`/shop(/\\|$)(.*)` with `/$2`, and its like, is the prefix `/shop` without it; a target"
        " without `$` is the whole path; a target that takes other parts of a path is an error"
        " of that path, which answers 503",
    ),
    Row(
        ("server-alias",),
        honoured.alias,
        "further names of the first host; regular expressions are a warning",
    ),
    Row(("upstream-vhost",), honoured.upstream_host, "the Host that the backend gets"),
    Row(
        ("x-forwarded-prefix",),
        honoured.forwarded_prefix,
        "a request header of that name",
    ),
    Row(("permanent-redirect-code",), honoured.redirect_code, "the status of that redirect"),
    Row(
        ("permanent-redirect",),
        honoured.redirect(values.MOVED),
        "a redirect, also with `$request_uri` at its end; other variables are an error, and 503",
    ),
    Row(("temporal-redirect",), honoured.redirect(values.FOUND), "the same, with status 302"),
    Row(
        ("whitelist-source-range", "allowlist-source-range"),
        guards.only_from,
        "503, unless it allows `0.0.0.0/0,::/0`",
    ),
    Row(("denylist-source-range",), guards.not_from, "503"),
    Row(
        ("auth-url",),
        guards.always("there is no external authentication here", "let the backend authenticate"),
        "503",
    ),
    Row(
        ("auth-type", "auth-secret"),
        guards.passwords,
        "503",
    ),
    Row(
        ("auth-tls-secret",),
        guards.client_certificates,
        "503, unless `auth-tls-verify-client` is `off`",
    ),
    Row(
        ("enable-modsecurity", "enable-owasp-core-rules"),
        guards.firewall,
        "503 where `true`",
    ),
    Row(("modsecurity-snippet",), guards.firewall_rules, "503"),
    Row(
        ("configuration-snippet", "server-snippet", "auth-snippet", "stream-snippet"),
        missing.snippet,
        "a warning where it only sets headers or tunes nginx, with what to write instead;"
        " 503 where anything else stands in it",
    ),
    Row(
        ("canary",),
        missing.canary,
        "an error: the object is not served, and the other Ingress has all requests;"
        " write a Route with weights or header matches",
    ),
    Row(
        ("backend-protocol",),
        missing.backend_protocol,
        "a warning; write `fairway.dev/backend-protocol` on the Service. gRPC is not spoken",
    ),
    Row(
        ("affinity",),
        missing.affinity,
        "a warning; write `fairway.dev/sticky-cookie` on the Service",
    ),
    Row(
        ("upstream-hash-by",),
        missing.hash_by,
        "a warning; write `fairway.dev/balance: consistent-hash` on the Service",
    ),
    Row(
        ("load-balance",),
        missing.load_balance,
        "a warning but for `round_robin`; write `fairway.dev/balance` on the Service",
    ),
    Row(
        ("enable-cors",),
        missing.cors,
        "a warning; answer in the backend, or set `fairway.dev/response-headers`",
    ),
    Row(
        ("app-root",),
        missing.app_root,
        "a warning; write a Route with a redirect of `Exact /`",
    ),
    Row(
        ("from-to-www-redirect",),
        missing.none(
            "the name with or without www. is not redirected",
            "write a Route for that host with the filter redirect: {host: ...}",
            unless=("false",),
        ),
        "a warning; write a Route for the other name with a redirect",
    ),
    Row(
        ("limit-rps", "limit-rpm", "limit-connections", "global-rate-limit"),
        missing.none("requests of one client are not limited here", _LIMIT_HINT, unless=("0", "")),
        "a warning; `fairway.dev/max-requests` on the Service bounds all clients together",
    ),
    Row(
        ("limit-rate", "limit-rate-after"),
        missing.none(
            "the rate of an answer is not limited here", "limit it in the backend",
            unless=("0", ""),
        ),
        "a warning",
    ),
    Row(
        ("custom-http-errors", "default-backend"),
        missing.none(
            "answers of backends are passed on as they are, and a Service without endpoints"
            " answers 503",
            "let the backend make its own error pages",
        ),
        "a warning",
    ),
    Row(
        ("custom-headers",),
        missing.none(
            "the ConfigMap is not read",
            "write its headers as fairway.dev/response-headers",
        ),
        "a warning; write `fairway.dev/response-headers`",
    ),
    Row(
        ("proxy-cookie-domain", "proxy-cookie-path", "proxy-redirect-from", "proxy-redirect-to"),
        missing.none(
            "Location and Set-Cookie of an answer are passed on as they are",
            "have the backend use the outside name",
            unless=("off", "default", ""),
        ),
        "a warning",
    ),
    Row(
        ("proxy-ssl-secret", "proxy-ssl-verify", "proxy-ssl-name"),
        missing.none(
            "a backend with HTTPS is shown no certificate, and only one of type ExternalName has"
            " its own verified",
            "refer to a Service of type ExternalName; FAIRWAY__BACKEND_AUTHORITIES says whom to"
            " trust",
            unless=("off",),
        ),
        "a warning; only ExternalName backends are verified, none is shown a certificate",
    ),
    Row(
        ("ssl-passthrough",),
        missing.none(
            "TLS ends here and is not passed through",
            "write spec.tls, and fairway.dev/backend-protocol: https on the Service",
            unless=("false",),
        ),
        "a warning; TLS ends at the data plane",
    ),
    Row(
        ("ssl-ciphers",),
        missing.none(
            "ciphers are those of the data plane, for all hosts", "leave this annotation out"
        ),
        "a warning",
    ),
    Row(
        ("mirror-target",),
        missing.none("requests are not mirrored", "mirror them in the backend", unless=("",)),
        "a warning",
    ),
    Row(
        TRIFLES,
        missing.trifle,
        "nothing, and one note names them: they tune nginx, or go with another annotation that"
        " is told of",
    ),
)  # fmt: skip

TABLE: Final[Mapping[str, Row]] = {name: row for row in ROWS for name in row.names}
