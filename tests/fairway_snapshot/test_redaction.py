import msgspec

from fairway_snapshot.filters import Header, RequestHeaders, ResponseHeaders, StripPrefix
from fairway_snapshot.model import (
    Backend,
    Endpoint,
    HealthCheck,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
    VirtualHost,
)
from fairway_snapshot.redaction import redacted_backend, redacted_host, redacted_route

TOKEN = "s3cr3t"

GUARDED = Route(
    name="shop/web/0",
    match=RouteMatch(
        path=PathMatch(kind=PathKind.PREFIX, value="/"),
        headers=(
            ValueMatch(name="x-api-key", value=TOKEN),
            ValueMatch(name="x-present", kind=ValueKind.PRESENT),
            ValueMatch(name="x-like", kind=ValueKind.REGEX, value=f"{TOKEN}.*"),
        ),
        query=(ValueMatch(name="token", value=TOKEN),),
    ),
    filters=(
        StripPrefix(prefix="/api"),
        RequestHeaders(
            set=(Header(name="authorization", value=f"Basic {TOKEN}"),),
            add=(Header(name="cookie", value=TOKEN),),
            remove=("x-debug",),
        ),
        ResponseHeaders(set=(Header(name="set-cookie", value=TOKEN),)),
    ),
)


def test_no_value_of_a_header_or_a_parameter_is_shown() -> None:
    shown = msgspec.json.encode(redacted_host(VirtualHost(routes=(GUARDED,)))).decode()

    assert TOKEN in msgspec.json.encode(GUARDED).decode()
    assert TOKEN not in shown
    for name in ("x-api-key", "x-present", "token", "authorization", "cookie", "set-cookie"):
        assert name in shown


def test_all_else_is_shown_as_it_is() -> None:
    plain = msgspec.structs.replace(
        GUARDED,
        match=RouteMatch(path=GUARDED.match.path, method="GET"),
        filters=(StripPrefix(prefix="/api"),),
    )

    assert redacted_route(plain) == plain


def test_a_health_check_shows_its_path_and_not_its_query() -> None:
    endpoints = (Endpoint(host="10.0.0.1", port=80),)
    plain = Backend(endpoints=endpoints, health_check=HealthCheck(path="/healthz"))
    asking = Backend(endpoints=endpoints, health_check=HealthCheck(path=f"/healthz?key={TOKEN}"))

    shown = redacted_backend(asking)

    assert shown.health_check is not None
    assert shown.health_check.path == "/healthz?redacted"
    assert redacted_backend(plain) == plain
