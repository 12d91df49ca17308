"""Annotations of ingress-nginx: each is honoured, or its author is told what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.filters import build_chain
from fairway_operator.compiler import Standing
from fairway_operator.foreign.nginx import ROWS, TABLE
from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.filters import Header, Redirect, RequestHeaders, RewriteHost, RewritePath
from fairway_snapshot.model import Retry
from tests.fairway_operator.compiler.conftest import Compile, Objects

if TYPE_CHECKING:
    from fairway_operator.findings import Finding
    from fairway_snapshot.model import Route
    from tests.fairway_operator.compiler.conftest import Body, Seen

NGINX = "nginx.ingress.kubernetes.io"
REF = ObjectRef(Kind.INGRESS, "shop", "i")


def ingress(*paths: str, **annotations: str) -> Body:
    """Make an Ingress with annotations of ingress-nginx, written with underscores."""
    given_ = {
        name if "/" in name else f"{NGINX}/{name.replace('_', '-')}": value
        for name, value in annotations.items()
    }
    return Objects().ingress("i", *(paths or ("x.com ^/ a:80",)), annotations=given_)


def seen_of(*paths: str, **annotations: str) -> Seen:
    return Compile()(ingress(*paths, **annotations), Objects().web("a"))


def served(seen: Seen, url: str = "x.com/") -> Route:
    route = seen.route(url)
    assert route is not None
    return route


def only(seen: Seen) -> Finding:
    (finding,) = seen.findings("i")
    return finding


# Honoured.


@pytest.mark.parametrize(
    ("annotations", "field", "value"),
    [
        ({"proxy_body_size": "8m"}, "max_body_bytes", 8 * 2**20),
        ({"proxy_body_size": "512K"}, "max_body_bytes", 512 * 2**10),
        ({"proxy_body_size": "0"}, "max_body_bytes", 0),
        ({"proxy_connect_timeout": "5"}, "timeouts.connect", 5),
        ({"proxy_read_timeout": "3600"}, "timeouts.backend_request", 3600),
        ({"proxy_read_timeout": "3600s"}, "timeouts.idle", 3600),
        ({"proxy_read_timeout": "360000"}, "timeouts.idle", 360_000),
        ({"proxy_next_upstream": "off"}, "retry", Retry(budget=0)),
        ({"proxy_next_upstream": "error timeout"}, "retry", None),
        ({"proxy_next_upstream": "error http_503 http_502"}, "retry", Retry(codes=(502, 503))),
        ({"proxy_next_upstream_tries": "3"}, "retry", Retry(attempts=2)),
        (
            {"proxy_next_upstream": "off", "proxy_next_upstream_tries": "3"},
            "retry",
            Retry(budget=0),
        ),
        ({"upstream_vhost": "Old.example"}, "filters", (RewriteHost(host="old.example"),)),
        (
            {"x_forwarded_prefix": "/shop"},
            "filters",
            (RequestHeaders(set=(Header(name="x-forwarded-prefix", value="/shop"),)),),
        ),
    ],
)
def test_what_means_the_same_here_is_honoured_without_a_word(
    annotations: dict[str, str], field: str, value: object
) -> None:
    seen = seen_of(**annotations)

    found: object = served(seen)
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value
    assert seen.findings("i") == ()


def test_our_own_annotation_goes_before_theirs() -> None:
    seen = seen_of(proxy_body_size="8m", **{"fairway.dev/max-body-size": "1Mi"})

    assert served(seen).max_body_bytes == 2**20


def test_theirs_goes_before_the_default_of_the_class() -> None:
    objects = Objects()
    ours = {
        "kind": "IngressClass",
        "metadata": {
            "name": "fairway",
            "annotations": {
                "fairway.dev/max-body-size": "1Mi",
                "fairway.dev/connect-timeout": "1s",
            },
        },
        "spec": {"controller": "fairway.dev/ingress-controller"},
    }

    seen = Compile()(ours, ingress(proxy_body_size="8m"), objects.web("a"))

    assert served(seen).max_body_bytes == 8 * 2**20
    assert served(seen).timeouts.connect == 1


@pytest.mark.parametrize(
    ("annotations", "answer"),
    [
        ({}, "308"),
        ({"ssl_redirect": "false"}, "shop/a:80"),
        ({"ssl_redirect": "true"}, "308"),
        ({"ssl_redirect": "false", "force_ssl_redirect": "true"}, "308"),
    ],
)
def test_redirects_to_https_are_honoured(annotations: dict[str, str], answer: str) -> None:
    body = ingress(**annotations)
    body["spec"]["tls"] = [{"hosts": ["x.com"]}]

    assert Compile()(body, Objects().web("a")).ask("x.com/") == answer


def test_a_forced_redirect_of_a_host_without_tls_is_told() -> None:
    seen = seen_of(force_ssl_redirect="true")

    assert seen.ask("x.com/") == "shop/a:80"
    assert (only(seen).field, only(seen).severity) == ("spec.tls", "warning")


def test_p10_a_path_of_segments_and_the_rest_is_rewritten_as_the_prefix_that_it_means() -> None:
    seen = seen_of("x.com ~/shop(/|$)(.*) a:80", use_regex="true", rewrite_target="/$2")

    assert seen.findings("i") == ()
    assert seen.ask("x.com/shop/cart") == "shop/a:80"
    assert seen.ask("x.com/shopping") == "404"
    assert served(seen, "x.com/shop/cart").filters == (
        RewritePath(replacement="/", prefix="/shop"),
    )


def test_p10_of_expressions_the_longest_is_asked_first() -> None:
    seen = seen_of(
        "x.com ~/item/[0-9]+ a:80",
        "x.com ~/item/[0-9]+/edit$ b:80",
        "x.com ^/ c:80",
        use_regex="true",
    )
    more = Compile()(
        ingress(
            "x.com ~/item/[0-9]+ a:80",
            "x.com ~/item/[0-9]+/edit$ b:80",
            "x.com ^/ c:80",
            use_regex="true",
        ),
        *(Objects().web(name) for name in "abc"),
    )

    assert sorted(seen.reasons("i")) == ["UnknownService", "UnknownService"]
    assert more.findings("i") == ()
    assert more.ask("x.com/item/12/edit") == "shop/b:80"
    assert more.ask("x.com/ITEM/12/editors") == "shop/a:80"
    assert more.ask("x.com/item/x") == "shop/c:80"


def test_p11_expressions_of_one_object_leave_the_paths_of_another_alone() -> None:
    objects = Objects()

    seen = Compile()(
        ingress("x.com ~/a[0-9] a:80", use_regex="true"),
        objects.ingress("j", "x.com ^/b[0-9] b:80"),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("x.com/a1") == "shop/a:80"
    assert seen.ask("x.com/b1") == "404"


def test_a_target_that_takes_parts_of_a_path_closes_that_path_alone() -> None:
    seen = seen_of("x.com ~/(a|b)/(.*)/x a:80", "x.com ^/c a:80", rewrite_target="/$1/$2")

    assert seen.ask("x.com/a/1/x") == "503"
    assert seen.ask("x.com/c") == "shop/a:80"
    assert only(seen).field == "spec.rules[0].http.paths[0].path"
    assert (only(seen).reason, only(seen).severity) == ("ForeignAnnotation", "error")
    assert "rewrite-target" in only(seen).message


def test_a_rewrite_of_ours_goes_before_a_target() -> None:
    seen = seen_of(
        "x.com ~/shop(/|$)(.*) a:80",
        rewrite_target="/$2",
        **{"fairway.dev/rewrite-prefix": "/v2"},
    )

    assert served(seen, "x.com/shop").filters == (RewritePath(replacement="/v2", prefix="/shop"),)


def test_an_alias_is_another_name_of_the_first_host() -> None:
    seen = seen_of("x.com ^/ a:80", "y.com ^/y a:80", server_alias="Z.com, *.x.com,~^bad")

    assert seen.ask("z.com/") == "shop/a:80"
    assert seen.ask("w.x.com/") == "shop/a:80"
    assert seen.ask("z.com/y") == "shop/a:80"
    assert (only(seen).reason, only(seen).severity) == ("ForeignAnnotation", "warning")


def test_x3_an_alias_is_a_host_like_any_other_and_the_oldest_has_it() -> None:
    objects = Objects()

    seen = Compile()(
        objects.ingress("old", "z.com ^/ b:80", age=2),
        ingress(server_alias="z.com"),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("z.com/") == "shop/b:80"
    assert seen.ask("x.com/") == "shop/a:80"
    assert seen.reasons("i") == ["Conflict"]


@pytest.mark.parametrize(
    ("annotations", "redirect"),
    [
        (
            {"permanent_redirect": "https://new.example"},
            Redirect(status=301, scheme="https", host="new.example", path="/"),
        ),
        (
            {"permanent_redirect": "https://new.example/a", "permanent_redirect_code": "308"},
            Redirect(status=308, scheme="https", host="new.example", path="/a"),
        ),
        (
            {"permanent_redirect": "http://new.example:81$request_uri"},
            Redirect(status=301, scheme="http", host="new.example", port=81),
        ),
        (
            {"temporal_redirect": "https://new.example/a"},
            Redirect(status=302, scheme="https", host="new.example", path="/a"),
        ),
    ],
)
def test_a_redirect_answers_whether_its_service_is_there_or_not(
    annotations: dict[str, str], redirect: Redirect
) -> None:
    seen = seen_of("x.com ^/ nowhere:80", **annotations)

    assert seen.findings("i") == ()
    assert served(seen).filters == (redirect,)
    assert served(seen).backends == ()


@pytest.mark.parametrize(
    "annotations",
    [
        {"permanent_redirect": "https://$host/x"},
        {"permanent_redirect": "/relative"},
        {"permanent_redirect": "https://new.example/a$request_uri"},
        {"permanent_redirect": "https://new.example/%zz"},
        {"permanent_redirect": "https://new.example", "permanent_redirect_code": "200"},
        {"temporal_redirect": "https://" + "a" * 64},
    ],
)
def test_a_redirect_that_cannot_be_does_not_serve_what_it_hid(annotations: dict[str, str]) -> None:
    seen = seen_of(**annotations)

    assert seen.ask("x.com/") == "503"
    assert only(seen).severity == "error"


# What keeps somebody out.


@pytest.mark.parametrize(
    "annotations",
    [
        {"auth_url": "https://auth.example/verify"},
        {"auth_type": "basic"},
        {"auth_secret": "passwords"},
        {"auth_tls_secret": "shop/ca"},
        {"auth_tls_secret": "shop/ca", "auth_tls_verify_client": "optional"},
        {"whitelist_source_range": "10.0.0.0/8"},
        {"allowlist_source_range": "0.0.0.0/0"},
        {"denylist_source_range": "192.0.2.0/24"},
        {"enable_modsecurity": "true"},
        {"modsecurity_snippet": "SecRuleEngine On"},
        {"configuration_snippet": "deny all;"},
        {"server_snippet": "if ($bad) { return 403; }"},
        {"configuration_snippet": 'more_set_headers "x: y"; deny all'},
        {"configuration_snippet": 'proxy_set_header X-User "";'},
        {"configuration_snippet": 'more_set_headers "open'},
        {"haproxy.org/allowlist": "10.0.0.0/8"},
        {"traefik.ingress.kubernetes.io/router.middlewares": "shop-auth@kubernetescrd"},
        {"nginx.org/basic-auth-secret": "passwords"},
    ],
)
def test_what_keeps_somebody_out_is_never_lost_in_silence(annotations: dict[str, str]) -> None:
    seen = seen_of(**annotations)

    assert seen.ask("x.com/") == "503"
    closing = [each for each in seen.findings("i") if each.severity == "error"]
    assert [each.reason for each in closing] == ["AccessNotEnforced"]
    assert "fairway.dev/ignored-annotations" in closing[0].hint
    serving = seen.compilation.serving[REF]
    assert serving.standing is Standing.CLOSED
    assert serving.conditions[0].reason == "AccessNotEnforced"


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param(
            {"whitelist_source_range": "0.0.0.0/0,::/0"}, id="T11 a solver of cert-manager"
        ),
        {"auth_tls_secret": "shop/ca", "auth_tls_verify_client": "off"},
        {"enable_modsecurity": "false"},
        {"auth_url": ""},
        {"configuration_snippet": "# nothing\n"},
    ],
)
def test_what_lets_everybody_in_closes_nothing(annotations: dict[str, str]) -> None:
    seen = seen_of(**annotations)

    assert seen.ask("x.com/") == "shop/a:80"
    assert all(each.severity == "info" for each in seen.findings("i"))


@pytest.mark.parametrize(
    ("name", "value"), [("auth-type", "none"), ("inbound-cidrs", "0.0.0.0/0, ::/0")]
)
def test_a_guard_of_another_controller_that_is_off_is_a_warning(name: str, value: str) -> None:
    seen = seen_of(**{f"alb.ingress.kubernetes.io/{name}": value})

    assert seen.ask("x.com/") == "shop/a:80"
    assert only(seen).severity == "warning"


def test_an_earlier_version_without_the_guard_does_not_stand_in() -> None:
    objects = Objects()
    steps = Compile().steps()
    assert steps.put(ingress(), objects.web("a")).ask("x.com/") == "shop/a:80"

    guarded = ingress(auth_url="https://auth.example")
    guarded["metadata"]["generation"] = 2

    assert steps.put(guarded).ask("x.com/") == "503"


@pytest.mark.parametrize("ignored", [f"{NGINX}/auth-url, {NGINX}/auth-signin", f"{NGINX}/*"])
def test_who_knows_that_nothing_is_lost_says_so(ignored: str) -> None:
    seen = seen_of(
        auth_url="https://a.example", auth_signin="https://a.example/in",
        **{"fairway.dev/ignored-annotations": ignored},
    )  # fmt: skip

    assert seen.ask("x.com/") == "shop/a:80"
    assert seen.findings("i") == ()


def test_a_class_may_say_so_for_all_of_its_objects() -> None:
    objects = Objects()
    steps = Compile().steps()
    ours: Body = {
        "kind": "IngressClass",
        "metadata": {"name": "fairway"},
        "spec": {"controller": "fairway.dev/ingress-controller"},
    }
    assert steps.put(ours, ingress(auth_type="basic"), objects.web("a")).ask("x.com/") == "503"

    ours["metadata"]["annotations"] = {"fairway.dev/ignored-annotations": f"{NGINX}/auth-type"}

    assert steps.put(ours).ask("x.com/") == "shop/a:80"


def test_a_list_of_ignored_annotations_that_cannot_be_read_opens_nothing() -> None:
    seen = seen_of(auth_type="basic", **{"fairway.dev/ignored-annotations": "auth-type"})

    assert seen.ask("x.com/") == "503"
    assert sorted(seen.reasons("i")) == ["AccessNotEnforced", "InvalidAnnotation"]


# What is told, with what to write.


@pytest.mark.parametrize(
    ("annotations", "hint"),
    [
        ({"backend_protocol": "HTTPS"}, "fairway.dev/backend-protocol: https"),
        ({"backend_protocol": "GRPC"}, "gRPC"),
        (
            {"affinity": "cookie", "session_cookie_name": "basket"},
            "fairway.dev/sticky-cookie: basket",
        ),
        ({"affinity": "cookie"}, "fairway.dev/sticky-cookie: INGRESSCOOKIE"),
        ({"upstream_hash_by": "$http_x_user"}, "consistent-hash header=x-user"),
        ({"upstream_hash_by": "$cookie_sid"}, "consistent-hash cookie=sid"),
        ({"upstream_hash_by": "$remote_addr"}, "fairway.dev/balance: consistent-hash,"),
        ({"load_balance": "ewma"}, "fairway.dev/balance: least-requests"),
        (
            {"configuration_snippet": 'more_set_headers "X-Frame-Options: DENY";'},
            'fairway.dev/response-headers: "x-frame-options: DENY"',
        ),
        (
            {"configuration_snippet": "proxy_set_header X-Tier gold;\nproxy_buffering off;"},
            'fairway.dev/request-headers: "x-tier: gold"',
        ),
        (
            {"enable_cors": "true", "cors_allow_origin": "https://a.example"},
            "access-control-allow-origin: https://a.example",
        ),
        ({"app_root": "/shop"}, "replaceFullPath: /shop"),
        ({"limit_rps": "5"}, "fairway.dev/max-requests"),
        ({"proxy_ssl_verify": "on"}, "FAIRWAY__BACKEND_AUTHORITIES"),
        ({"proxy_body_size": "8 MB"}, "write it as 512k, 8m or 1g"),
        ({"proxy_read_timeout": "1m"}, "write it in digits"),
        ({"ssl_redirect": "no"}, 'write "true" or "false"'),
        ({"rewrite_taget": "/"}, f"write {NGINX}/rewrite-target"),
        ({"frobnicate": "/"}, "correct the name"),
        ({"konghq.com/strip-path": "true"}, "fairway.dev annotation"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_to_write(
    annotations: dict[str, str], hint: str
) -> None:
    seen = seen_of(**annotations)

    assert seen.ask("x.com/") == "shop/a:80"
    (finding,) = [each for each in seen.findings("i") if each.severity != "info"]
    assert (finding.reason, finding.severity) == ("ForeignAnnotation", "warning")
    assert hint in finding.hint


def test_credentials_in_a_snippet_are_not_repeated() -> None:
    seen = seen_of(configuration_snippet='proxy_set_header Authorization "Basic c2VjcmV0";')

    assert 'fairway.dev/request-headers: "authorization: ..."' in only(seen).hint
    assert "c2VjcmV0" not in str(seen.findings("i"))


def test_what_no_client_would_notice_is_one_note() -> None:
    seen = seen_of(proxy_buffering="on", proxy_buffer_size="8k", client_body_buffer_size="1m")

    assert only(seen).severity == "info"
    assert "client-body-buffer-size, proxy-buffer-size, proxy-buffering" in only(seen).message


def test_what_goes_with_another_annotation_is_told_with_it() -> None:
    seen = seen_of(affinity="cookie", session_cookie_name="basket", session_cookie_max_age="60")

    assert only(seen).field == f"metadata.annotations[{NGINX}/affinity]"


def test_a_canary_is_not_served_beside_what_it_is_a_canary_of() -> None:
    objects = Objects()
    main = objects.ingress("main", "x.com ^/ b:80", age=1)
    canary = ingress(canary="true", canary_weight="10")
    canary["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"

    seen = Compile()(main, canary, objects.web("a"), objects.web("b"))

    assert seen.ask("x.com/") == "shop/b:80"
    assert seen.findings("main") == ()
    closing = next(each for each in seen.findings("i") if each.severity == "error")
    assert "weight 90 (the other) and 10 (this one)" in closing.hint


def test_a_canary_by_header_is_told_what_a_route_would_match() -> None:
    seen = seen_of(canary="true", canary_by_header="X-Canary")

    closing = next(each for each in seen.findings("i") if each.severity == "error")
    assert '{name: X-Canary, value: "always"}' in closing.hint


def test_objects_of_other_classes_are_not_read() -> None:
    body = ingress(auth_url="https://auth.example")
    body["spec"]["ingressClassName"] = "nginx"

    assert Compile()(body).findings("i") == ()


# The table.


def test_no_annotation_stands_in_two_rows() -> None:
    names = [name for row in ROWS for name in row.names]

    assert len(names) == len(set(names)) == len(TABLE)


rough = st.text('/$12(.*)| ;"{}%:,\\\x00é', max_size=12) | st.sampled_from(
    ["true", "false", "on", "off", "0", "https://a.example/x", "basic", "cookie", "10.0.0.0/8"]
)


@given(st.dictionaries(st.sampled_from(sorted(TABLE)), rough, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_can_be_served_or_is_told(annotations: dict[str, str]) -> None:
    seen = seen_of("x.com ~/shop(/|$)(.*) a:80", "x.com ^/ a:80", **annotations)

    for url in ("x.com/", "x.com/shop/x"):
        route = seen.route(url)
        if route is not None:
            build_chain(route.filters)
    assert "InternalError" not in seen.reasons("i")
    assert all(each.hint and each.message for each in seen.findings("i"))
