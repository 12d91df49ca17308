"""TLS sections and Secrets (T) of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.refs import Kind, ObjectRef

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects


def tls(secret: str | None, *hosts: str) -> dict[str, Any]:
    section: dict[str, Any] = {"hosts": list(hosts)} if hosts else {}
    return section if secret is None else section | {"secretName": secret}


def test_t1_a_listed_host_gets_its_secret_and_is_redirected(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]),
        objects.web("a"),
        objects.secret("cert", "x.com"),
    )

    assert seen.certificate("x.com") == "shop/cert"
    assert seen.ask("x.com/") == "308"
    assert seen.ask("x.com/", tls=True) == "shop/a:80"
    assert seen.findings() == ()


def test_t2_a_host_that_is_not_listed_is_served_if_a_certificate_is_for_it(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress(
            "i", "x.com ^/ a:80", "y.com ^/ a:80", "z.com ^/ a:80", tls=[tls("cert", "x.com")]
        ),
        objects.web("a"),
        objects.secret("cert", "x.com", "y.com"),
    )

    assert seen.certificate("y.com") == "shop/cert"
    assert seen.ask("y.com/") == "308"
    assert seen.certificate("z.com") is None
    assert seen.ask("z.com/") == "shop/a:80"


def test_t2_a_listed_host_gets_its_own_secret_whatever_an_earlier_one_is_for(
    compiled: Compile, objects: Objects
) -> None:
    sections = [tls("both", "y.com"), tls("own", "x.com")]
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", "y.com ^/ a:80", tls=sections),
        objects.web("a"),
        objects.secret("both", "x.com", "y.com"),
        objects.secret("own", "x.com"),
    )

    assert seen.certificate("y.com") == "shop/both"
    assert seen.certificate("x.com") == "shop/own"


@pytest.mark.parametrize("hosts", [(), ("x.com",)])
def test_t3_tls_without_a_secret_redirects_with_the_default_certificate(
    compiled: Compile, objects: Objects, hosts: tuple[str, ...]
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls(None, *hosts)]), objects.web("a")
    )

    assert seen.ask("x.com/") == "308"
    assert seen.certificate("x.com") is None
    assert seen.findings() == ()


def broken_secrets(objects: Objects) -> dict[str, dict[str, Any]]:
    good, other = objects.secret("cert", "x.com"), objects.secret("cert", "x.com")
    mixed = {**good, "data": {**good["data"], "tls.key": other["data"]["tls.key"]}}
    return {
        "mismatched": mixed,
        "no key": {**good, "data": {"tls.crt": good["data"]["tls.crt"]}},
        "no certificate": {**good, "data": {"tls.key": good["data"]["tls.key"]}},
        "not base64": {**good, "data": {**good["data"], "tls.crt": "%%%"}},
        "not PEM": {**good, "data": {**good["data"], "tls.crt": "aGVsbG8="}},
        "key not PEM": {**good, "data": {**good["data"], "tls.key": "aGVsbG8="}},
        "another type": {**good, "type": "Opaque"},
        "data is a list": {**good, "data": ["tls.crt"]},
    }


@pytest.mark.parametrize(
    "flaw",
    [
        "mismatched",
        "no key",
        "no certificate",
        "not base64",
        "not PEM",
        "key not PEM",
        "another type",
        "data is a list",
    ],
)
def test_t4_a_bad_secret_leaves_the_default_certificate_and_other_hosts_alone(
    compiled: Compile, objects: Objects, flaw: str
) -> None:
    secret = broken_secrets(objects)[flaw]
    steps = compiled.steps()

    seen = steps.put(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]),
        objects.ingress("j", "y.com ^/ a:80", tls=[tls("other", "y.com")]),
        objects.web("a"),
        objects.secret("other", "y.com"),
        secret,
    )

    assert seen.reasons("i") == ["InvalidCertificate"]
    assert seen.certificate("x.com") is None
    assert seen.certificate("y.com") == "shop/other"
    assert seen.ask("x.com/", tls=True) == "shop/a:80"
    content = next(iter(secret["data"].values()))[:20] if isinstance(secret["data"], dict) else "["
    assert all(content not in each.message for each in seen.findings("i")) or flaw == "not base64"
    mended = steps.put(objects.secret("cert", "x.com"))
    assert mended.certificate("x.com") == "shop/cert"
    assert mended.findings("i") == ()


def test_t4_a_certificate_that_has_expired_is_served(compiled: Compile, objects: Objects) -> None:
    """Clients that do not mind go on, and the metric of its expiry tells whom it concerns."""
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]),
        objects.web("a"),
        objects.secret("cert", "x.com", days=1),
    )

    assert seen.certificate("x.com") == "shop/cert"
    assert seen.ask("x.com/", tls=True) == "shop/a:80"


def test_t4_a_missing_secret_is_picked_up_when_it_appears_and_dropped_when_it_goes(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    seen = steps.put(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]), objects.web("a")
    )
    assert seen.reasons("i") == ["UnknownSecret"]
    assert seen.ask("x.com/") == "308"

    assert steps.put(objects.secret("cert", "x.com")).certificate("x.com") == "shop/cert"

    gone = steps.remove(Kind.SECRET, "cert")
    assert gone.certificate("x.com") is None
    assert len(gone.snapshot.certificates) == 0


def test_t5_the_oldest_of_two_secrets_for_one_host_wins_until_it_goes(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    seen = steps.put(
        objects.ingress("young", "x.com ^/a a:80", tls=[tls("mine", "x.com")], age=1),
        objects.ingress("old", "x.com ^/b a:80", tls=[tls("theirs", "x.com")], age=2),
        objects.web("a"),
        objects.secret("mine", "x.com"),
        objects.secret("theirs", "x.com"),
    )

    assert seen.certificate("x.com") == "shop/theirs"
    assert list(seen.snapshot.certificates) == ["shop/theirs"]
    assert seen.reasons("young") == ["Conflict"]
    after = steps.remove(Kind.INGRESS, "old")
    assert after.certificate("x.com") == "shop/mine"
    assert after.reasons("young") == []


def test_t5_among_many_claims_age_alone_decides(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        *(
            objects.ingress(f"i{at}", f"x.com ^/{at} a:80", tls=[tls(f"s{at}", "x.com")], age=at)
            for at in range(10)
        ),
        *(objects.secret(f"s{at}", "x.com") for at in range(10)),
        objects.web("a"),
    )

    assert seen.certificate("x.com") == "shop/s9"
    assert seen.reasons("i9") == []
    assert {reason for at in range(9) for reason in seen.reasons(f"i{at}")} == {"Conflict"}


def test_t5_an_older_object_without_a_usable_secret_does_not_keep_others_from_theirs(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("old", "x.com ^/b a:80", tls=[tls("missing", "x.com")], age=2),
        objects.ingress("young", "x.com ^/a a:80", tls=[tls("mine", "x.com")], age=1),
        objects.web("a"),
        objects.secret("mine", "x.com"),
    )

    assert seen.certificate("x.com") == "shop/mine"
    assert seen.reasons("young") == []


def test_t6_an_exact_name_goes_before_a_wildcard(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        objects.ingress("wild", "*.x.com ^/ a:80", tls=[tls("wild", "*.x.com")], age=9),
        objects.ingress("exact", "a.x.com ^/ a:80", tls=[tls("exact", "a.x.com")], age=1),
        objects.web("a"),
        objects.secret("wild", "*.x.com"),
        objects.secret("exact", "a.x.com"),
    )

    assert seen.certificate("a.x.com") == "shop/exact"
    assert seen.certificate("b.x.com") == "shop/wild"
    assert seen.findings() == ()


def test_t7_a_rotated_secret_changes_its_certificate_alone(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    before = steps.put(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]),
        objects.web("a"),
        objects.secret("cert", "x.com"),
    )

    after = steps.put(objects.secret("cert", "x.com"))

    (old,) = before.snapshot.certificates.values()
    (new,) = after.snapshot.certificates.values()
    assert old != new
    assert after.virtual_host("x.com") is before.virtual_host("x.com")


def test_t8_the_default_certificate_is_that_of_the_settings(
    compiled: Compile, objects: Objects
) -> None:
    world: list[dict[str, Any] | list[dict[str, Any]]] = [
        objects.ingress("all", "- ^/ a:80", tls=[tls("mine")]),
        objects.web("a"),
        objects.secret("mine", "x.com"),
        objects.secret("fairway/default", "any.example"),
    ]
    ref = ObjectRef(Kind.SECRET, "fairway", "default")

    assert compiled(*world).certificate("unknown.example") == "shop/mine"
    assert compiled(*world, default_certificate=ref).certificate("unknown.example") == (
        "fairway/default"
    )


def test_t8_the_default_certificate_comes_and_goes(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps(default_certificate=ObjectRef(Kind.SECRET, "fairway", "default"))

    assert steps.put(objects.web("a")).certificate("x.com") is None
    there = steps.put(objects.secret("fairway/default", "x.com"))
    assert there.certificate("x.com") == "fairway/default"
    assert list(there.snapshot.certificates) == ["fairway/default"]
    gone = steps.remove(Kind.SECRET, "fairway/default")
    assert gone.certificate("x.com") is None
    assert len(gone.snapshot.certificates) == 0


def test_t9_a_secret_of_another_namespace_is_never_used(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]),
        objects.web("a"),
        objects.secret("other/cert", "x.com"),
    )

    assert seen.certificate("x.com") is None
    assert seen.reasons("i") == ["UnknownSecret"]


def test_t10_the_leaf_is_put_first(compiled: Compile, objects: Objects) -> None:
    leaf, key = objects.certificate("x.com")
    other, _ = objects.certificate("ca.example")
    plain = {"tls.crt": (other + leaf).decode(), "tls.key": key.decode()}
    secret = {**objects.secret("cert", "x.com"), "stringData": plain}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]), objects.web("a"), secret
    )

    (certificate,) = seen.snapshot.certificates.values()
    assert certificate.chain.startswith(leaf.strip())
    assert [each.severity for each in seen.findings("i")] == ["warning"]


def test_t11_a_solver_without_tls_stays_reachable_over_plain_http(
    compiled: Compile, objects: Objects
) -> None:
    token = "/.well-known/acme-challenge/abc"
    seen = compiled(
        objects.ingress("site", "x.com ^/ a:80", tls=[tls("cert", "x.com")], age=9),
        objects.ingress("solver", f"x.com ={token} solver:80", age=1),
        objects.web("a"),
        objects.web("solver"),
        objects.secret("cert", "x.com"),
    )

    assert seen.ask(f"x.com{token}") == "shop/solver:80"
    assert seen.ask("x.com/") == "308"


def pair_for(objects: Objects, *sections: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        objects.ingress("i", "x.com ^/ a:80", tls=list(sections), age=5),
        *objects.web("a"),
        objects.secret("ecdsa", "x.com"),
        objects.secret("rsa", "x.com", rsa_bits=2048),
    ]


@pytest.mark.parametrize("order", [("ecdsa", "rsa"), ("rsa", "ecdsa")])
def test_t12_an_ecdsa_and_an_rsa_certificate_for_one_host_are_both_served(
    compiled: Compile, objects: Objects, order: tuple[str, str]
) -> None:
    seen = compiled(pair_for(objects, *(tls(name, "x.com") for name in order)))

    assert seen.certificate("x.com") == "shop/ecdsa+rsa"
    (served,) = seen.snapshot.certificates.values()
    assert served.alternative is not None
    assert served.alternative.chain != served.chain
    assert seen.findings() == ()


def test_t12_a_host_that_shares_one_of_the_two_keeps_that_one_alone(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    sections = tls("ecdsa", "x.com", "y.com"), tls("rsa", "x.com")
    seen = steps.put(
        pair_for(objects, *sections),
        objects.ingress("j", "y.com ^/ a:80", tls=[tls("ecdsa", "y.com")], age=9),
        objects.secret("ecdsa", "x.com", "y.com"),
    )

    assert seen.certificate("x.com") == "shop/ecdsa+rsa"
    assert seen.certificate("y.com") == "shop/ecdsa"

    rotated = steps.put(objects.secret("ecdsa", "x.com", "y.com"))
    for before, after in zip(
        seen.snapshot.certificates.values(), rotated.snapshot.certificates.values(), strict=True
    ):
        assert before.chain != after.chain
        assert before.alternative == after.alternative


def test_t12_without_one_of_the_two_the_other_is_served(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    steps.put(pair_for(objects, tls("ecdsa", "x.com"), tls("rsa", "x.com")))

    alone = steps.remove(Kind.SECRET, "ecdsa")
    assert alone.certificate("x.com") == "shop/rsa"
    assert list(alone.snapshot.certificates) == ["shop/rsa"]
    assert alone.reasons("i") == ["UnknownSecret"]

    again = steps.put(objects.secret("ecdsa", "x.com"))
    assert list(again.snapshot.certificates) == ["shop/ecdsa+rsa"]

    alike = steps.put(objects.secret("rsa", "x.com"))
    assert list(alike.snapshot.certificates) == ["shop/ecdsa"]
    assert alike.reasons("i") == ["Conflict"]


@pytest.mark.parametrize(
    ("bits", "why"),
    [pytest.param(0, "both are ECDSA", id="alike"), pytest.param(1024, "OpenSSL", id="weak")],
)
def test_t12_a_second_certificate_that_cannot_be_served_beside_is_reported(
    compiled: Compile, objects: Objects, bits: int, why: str
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("one", "x.com"), tls("two", "x.com")]),
        objects.web("a"),
        objects.secret("one", "x.com"),
        objects.secret("two", "x.com", rsa_bits=bits),
    )

    assert seen.certificate("x.com") == "shop/one", why
    assert seen.reasons("i") == ["Conflict"]


def test_t12_who_wants_one_of_the_two_agrees_with_who_has_both(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        pair_for(objects, tls("ecdsa", "x.com"), tls("rsa", "x.com")),
        objects.ingress("young", "x.com ^/y a:80", tls=[tls("rsa", "x.com")], age=1),
    )

    assert seen.certificate("x.com") == "shop/ecdsa+rsa"
    assert seen.findings() == ()


def test_t12_a_route_names_its_second_secret(compiled: Compile, objects: Objects) -> None:
    def route(**section: str) -> dict[str, Any]:
        rules = [{"backendRefs": [{"name": "a", "port": 80}]}]
        return objects.route("r", hosts=["x.com"], tls=section, rules=rules)

    secrets = pair_for(objects)[1:]
    seen = compiled(secrets, route(secretName="ecdsa", alternativeSecretName="rsa"))
    assert seen.certificate("x.com") == "shop/ecdsa+rsa"
    assert seen.findings() == ()

    alone = compiled(secrets, route(alternativeSecretName="rsa"))
    assert alone.certificate("x.com") == "shop/rsa"
    assert alone.reasons("r", Kind.ROUTE) == ["InvalidObject"]


def test_t13_hosts_that_share_a_secret_share_a_certificate(
    compiled: Compile, objects: Objects
) -> None:
    hosts = [f"h{at}.x.com" for at in range(9)]
    seen = compiled(
        objects.ingress("i", *(f"{host} ^/ a:80" for host in hosts), tls=[tls("cert", *hosts)]),
        objects.web("a"),
        objects.secret("cert", "*.x.com"),
    )

    assert {seen.certificate(host) for host in hosts} == {"shop/cert"}
    assert len(seen.snapshot.certificates) == 1
    assert seen.findings() == ()


def test_a_certificate_that_is_not_for_its_host_is_served_with_a_warning(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]),
        objects.web("a"),
        objects.secret("cert", "y.com"),
    )

    assert seen.certificate("x.com") == "shop/cert"
    assert seen.reasons("i") == ["HostNotCovered"]


@pytest.mark.parametrize(
    ("annotation", "setting", "answer"),
    [("false", True, "shop/a:80"), ("true", False, "308"), (None, False, "shop/a:80")],
)
def test_the_redirect_can_be_switched(
    compiled: Compile, objects: Objects, annotation: str | None, answer: str, *, setting: bool
) -> None:
    annotations = {} if annotation is None else {"fairway.dev/ssl-redirect": annotation}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls(None)], annotations=annotations),
        objects.web("a"),
        ssl_redirect=setting,
    )

    assert seen.ask("x.com/") == answer


def test_no_key_is_shown_by_any_repr(compiled: Compile, objects: Objects) -> None:
    secret = objects.secret("cert", "x.com")
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", tls=[tls("cert", "x.com")]), objects.web("a"), secret
    )

    shown = repr(seen.compilation) + repr(list(seen.snapshot.certificates.values()))
    assert "PRIVATE KEY" not in shown


def test_nothing_is_kept_of_a_secret_that_is_gone_and_was_never_served(
    compiled: Compile, objects: Objects
) -> None:
    """It holds a private key."""
    steps = compiled.steps()
    steps.put(
        objects.ingress("old", "x.com ^/ a:80", tls=[tls("first", "x.com")], age=2),
        objects.ingress("new", "x.com ^/b a:80", tls=[tls("second", "x.com")], age=1),
        objects.web("a"),
        objects.secret("first", "x.com"),
        objects.secret("second", "x.com"),
    )
    second = ObjectRef(Kind.SECRET, "shop", "second")
    remembered = steps._compiler._checks._known
    assert second in remembered

    steps.remove(Kind.SECRET, "second")

    assert second not in remembered
