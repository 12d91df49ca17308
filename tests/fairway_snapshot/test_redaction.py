import msgspec

from fairway_snapshot.filters import Header, RequestHeaders, ResponseHeaders, StripPrefix
from fairway_snapshot.model import (
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
    VirtualHost,
)
from fairway_snapshot.redaction import redacted_host, redacted_route

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
