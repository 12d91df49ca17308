"""Annotations of ingress-nginx that are not to be had, and what to write instead."""

from fairway_operator.foreign import guards, values
from fairway_operator.foreign.adoption import NGINX, Adoption, Read
from fairway_operator.foreign.snippets import directives, equivalents, is_harmless
from fairway_operator.foreign.trifles import FAMILIES


def trifle(adoption: Adoption, name: str, _value: str) -> None:
    """Note it, unless it goes with an annotation that is told of."""
    short = name.removeprefix(NGINX)
    family = next((heads for start, heads in FAMILIES.items() if short.startswith(start)), ())
    if not any(NGINX + head in adoption.given for head in family):
        adoption.trifle(name)


def none(message: str, hint: str, *, unless: tuple[str, ...] = ()) -> Read:
    """Warn, unless the value is one of those that ask for nothing."""

    def tell(adoption: Adoption, name: str, value: str) -> None:
        if value.strip().lower() not in unless:
            adoption.warn(name, message, hint)

    return tell


def canary(adoption: Adoption, name: str, value: str) -> None:
    """Serve nothing: on its own a canary would compete with what it is a canary of."""
    if values.flag(value) != "true":
        return
    adoption.is_shadow = True
    at = {key: adoption.given.get(f"{NGINX}canary-{key}", "").strip() for key in values.CANARY}
    adoption.fail(
        name,
        "a canary only modifies another Ingress, which is not done here: none of its paths is"
        " served, and the other Ingress has all requests",
        f"write one Route for both, with {values.canary_hint(at)}",
    )


def backend_protocol(adoption: Adoption, name: str, value: str) -> None:
    """Say where the protocol of a backend is said."""
    match value.strip().upper():
        case "HTTP" | "AUTO_HTTP" | "":
            return
        case "HTTPS":
            message = "what is spoken to a backend is said by its Service"
            hint = "annotate the Services with fairway.dev/backend-protocol: https, or give their"
            hint += " ports appProtocol: https; and leave this one out"
        case "GRPC" | "GRPCS":
            message = "HTTP/2 (and so gRPC) is not spoken to backends; HTTP/1.1 is"
            hint = "leave gRPC services to a controller that speaks it"
        case other:
            message = f"{other[:40]} is not spoken to backends; HTTP/1.1 is"
            hint = "put a web server before the backend"
    adoption.warn(name, message, hint)


def affinity(adoption: Adoption, name: str, value: str) -> None:
    """Say where it is said that clients stay at an endpoint."""
    if value.strip() != "cookie":
        return
    cookie = adoption.given.get(f"{NGINX}session-cookie-name", "INGRESSCOOKIE").strip()
    adoption.warn(
        name,
        "which endpoint a client gets is said by the Service",
        f"annotate the Services with fairway.dev/sticky-cookie: {cookie[:64]},"
        " and leave this one out",
    )


def hash_by(adoption: Adoption, name: str, value: str) -> None:
    """Say where it is said what decides on the endpoint."""
    adoption.warn(
        name,
        "which endpoint a request gets is said by the Service",
        f"annotate the Services with fairway.dev/balance: {values.hash_key(value)},"
        " and leave this one out",
    )


def load_balance(adoption: Adoption, name: str, value: str) -> None:
    """Say where it is said how endpoints are chosen."""
    if value.strip() in ("round_robin", ""):
        return
    adoption.warn(
        name,
        f"{value.strip()[:40]!r} is not a way to balance here; it is round-robin",
        "annotate the Services with fairway.dev/balance: least-requests, and leave this one out",
    )


def cors(adoption: Adoption, name: str, value: str) -> None:
    """Say that other origins are the business of the backend."""
    if values.flag(value) != "true":
        return
    origin = adoption.given.get(f"{NGINX}cors-allow-origin", "*").strip()
    adoption.warn(
        name,
        "requests of other origins (CORS) are not answered here; browsers will refuse what the"
        " backend does not allow itself",
        "answer them in the backend; where no preflight (OPTIONS) is made, fairway.dev/"
        f"response-headers: 'access-control-allow-origin: {origin[:100]}' is enough",
    )


def app_root(adoption: Adoption, name: str, value: str) -> None:
    """Say how / is redirected."""
    adoption.warn(
        name,
        "requests for / are not redirected",
        "write a Route of the same host, with a match of path {type: Exact, value: /} and"
        f" the filter redirect: {{path: {{replaceFullPath: {value.strip()[:100]}}}}}",
    )


def snippet(adoption: Adoption, name: str, value: str) -> None:
    """Say what sets the same headers; close for whatever else a snippet does."""
    if directives(value) == []:
        return
    if not is_harmless(value):
        guards.close_snippet(adoption, name)
        return
    same = " and ".join(equivalents(value))
    adoption.warn(
        name,
        "configuration of nginx is never run here",
        f"write {same}" if same else "write fairway.dev annotations, or a Route with filters",
    )
