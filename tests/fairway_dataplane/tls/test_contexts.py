"""Which certificate answers, and what a bad one costs."""

import itertools
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fairway_dataplane.tls.certificates import not_after
from fairway_dataplane.tls.contexts import (
    AT_ONCE_LIMIT,
    FALLBACK,
    Contexts,
    CurrentContexts,
    build_contexts,
    build_contexts_in_steps,
    no_contexts,
)
from fairway_dataplane.tls.openssl import PREFERRED
from fairway_dataplane.tls.serving import openssl_context
from fairway_snapshot.model import Certificate, CertificateId
from fairway_snapshot.secret import SecretBytes
from tests.fairway_dataplane.tls.conftest import (
    SHOP,
    WILD,
    built,
    certificate,
    certificates,
    contexts,
    server_names,
    signed_like,
)


def chosen(built: Contexts, name: bytes) -> str | None:
    identity = built.choose(name)
    return None if identity is None else identity.certificate


def test_an_exact_name_beats_a_wildcard_beats_the_default() -> None:
    built = contexts(
        *certificates(shop=SHOP, wild=WILD, default=certificate("default.example")),
        *server_names({"shop.example": "shop", "*.shop.example": "wild", "": "default"}),
        *server_names({"a.shop.example": "shop"}),
    )

    assert chosen(built, b"shop.example") == "n/shop"
    assert chosen(built, b"a.shop.example") == "n/shop"
    assert chosen(built, b"b.shop.example") == "n/wild"
    assert chosen(built, b"b.c.shop.example") == "n/default"
    assert chosen(built, b"other.example") == "n/default"
    assert chosen(built, b"") == "n/default"


def test_without_a_default_the_self_signed_certificate_answers() -> None:
    assert chosen(contexts(), b"shop.example") == FALLBACK
    assert chosen(contexts(), b"") == FALLBACK


def test_a_name_whose_certificate_is_missing_is_answered_by_default() -> None:
    built = contexts(
        *certificates(default=SHOP), *server_names({"a.example": "missing", "": "default"})
    )

    assert chosen(built, b"a.example") == "n/default"


def test_strict_contexts_refuse_names_that_are_unknown_or_missing() -> None:
    built = contexts(*certificates(shop=SHOP), *server_names({"shop.example": "shop"}), strict=True)

    assert chosen(built, b"shop.example") == "n/shop"
    assert built.choose(b"other.example") is None
    assert built.choose(b"") is None


def test_names_of_one_certificate_share_one_context() -> None:
    built = contexts(
        *certificates(shop=SHOP, wild=WILD),
        *server_names({"shop.example": "shop", "www.shop.example": "shop", "x.example": "wild"}),
    )

    assert built.choose(b"shop.example") is built.choose(b"www.shop.example")


def test_a_change_builds_the_changed_certificate_alone() -> None:
    before = contexts(
        *certificates(shop=SHOP, wild=WILD),
        *server_names({"shop.example": "shop", "x.example": "wild"}),
    )

    after = build_contexts(before, certificates(shop=certificate("shop.example")))

    assert after.choose(b"x.example") is before.choose(b"x.example")
    assert after.choose(b"shop.example") is not before.choose(b"shop.example")
    assert build_contexts(before, []) is before


def test_what_is_removed_answers_no_more() -> None:
    built = contexts(
        *certificates(shop=SHOP, wild=WILD),
        *server_names({"shop.example": "shop", "*.x.example": "wild", "": "shop"}),
    )

    built = build_contexts(
        built,
        [
            *certificates(wild=None),
            *server_names({"shop.example": None, "*.x.example": None, "": None}),
        ],
    )

    assert chosen(built, b"shop.example") == FALLBACK
    assert chosen(built, b"a.x.example") == FALLBACK
    assert list(built.leaves) == ["n/shop"]


def pem(key: rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(Certificate(chain=SHOP.chain, key=WILD.key), "does not belong", id="mismatch"),
        pytest.param(
            Certificate(chain=SHOP.chain, key=SecretBytes(pem(KEY))), "not belong", id="other kind"
        ),
        pytest.param(Certificate(chain=b"", key=SHOP.key), "empty", id="no chain"),
        pytest.param(Certificate(chain=SHOP.chain, key=SecretBytes(b"\n")), "empty", id="no key"),
        pytest.param(Certificate(chain=b"hello", key=SHOP.key), "not PEM", id="not PEM"),
        pytest.param(
            Certificate(chain=SHOP.chain[:200], key=SHOP.key),
            "cannot be read|PEM",
            id="half a chain",
        ),
        pytest.param(
            Certificate(chain=SHOP.chain, key=SecretBytes(b"\0" * (1 << 20))), "longer", id="1 MB"
        ),
        pytest.param(
            Certificate(chain=SHOP.chain * 60, key=SHOP.key), "more than 16384", id="long chain"
        ),
        pytest.param(
            Certificate(chain=SHOP.chain, key=SecretBytes(pem(KEY, b"secret"))),
            "encrypted",
            id="a key with a password",
        ),
    ],
)
def test_a_bad_certificate_is_refused_alone_and_its_last_good_form_serves(
    bad: Certificate, reason: str
) -> None:
    noted: list[tuple[CertificateId, str]] = []
    before = build_contexts(
        no_contexts(WILD, built(noted), strict=False),
        [
            *certificates(shop=SHOP, wild=WILD),
            *server_names({"shop.example": "shop", "x.example": "wild"}),
        ],
    )

    after = build_contexts(before, certificates(shop=bad, wild=certificate("x.example")))

    assert after.choose(b"shop.example") is before.choose(b"shop.example")
    assert after.choose(b"x.example") is not before.choose(b"x.example")
    [(refused, why)] = noted
    assert refused == "n/shop"
    assert any(word in why for word in reason.split("|")), why
    build_contexts(after, certificates(shop=SHOP))
    assert len(noted) == 1


def test_a_weak_key_is_refused() -> None:
    bad = signed_like(SHOP, rsa.generate_private_key(public_exponent=65537, key_size=1024))

    noted: list[tuple[CertificateId, str]] = []
    build_contexts(no_contexts(SHOP, built(noted), strict=False), certificates(weak=bad))

    assert "too weak" in noted[0][1]


def test_a_key_leaves_no_descriptor_and_no_file_behind() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())

    contexts(*certificates(shop=SHOP, bad=Certificate(chain=SHOP.chain, key=WILD.key)))

    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_the_expiry_of_a_leaf_is_known() -> None:
    assert not_after(certificate("a", now=1_800_000_000.0)) == 1_800_086_400.0
    assert not_after(Certificate(chain=b"hello", key=SHOP.key)) is None


def test_building_stops_after_each_certificate_for_others_to_run() -> None:
    steps = build_contexts_in_steps(contexts(), certificates(a=SHOP, b=WILD, c=SHOP))
    times = [time.thread_time(), *(time.thread_time() for _ in steps)]
    pauses = [after - before for before, after in itertools.pairwise(times)]

    assert len(pauses) == 3
    assert min(pauses) < 0.02, "seconds of work; half a millisecond where this was written"


def test_old_versions_and_weak_ciphers_are_not_offered() -> None:
    context = openssl_context(SHOP).context

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.num_tickets == 1
    assert all(
        "GCM" in cipher["name"] or "CHACHA20" in cipher["name"] for cipher in context.get_ciphers()
    )


def test_the_certificates_of_a_large_change_are_built_by_their_first_client() -> None:
    noted: list[tuple[CertificateId, str]] = []
    place = built(noted)
    bad = Certificate(chain=SHOP.chain, key=WILD.key)
    many = {f"c{number}": SHOP for number in range(AT_ONCE_LIMIT + 1)} | {"bad": bad}
    names = server_names({"one.example": "c1", "bad.example": "bad"})
    made = build_contexts(no_contexts(WILD, place, strict=False), [*certificates(**many), *names])
    assert (len(place), noted) == (0, [])

    assert chosen(made, b"one.example") == "n/c1"
    assert chosen(made, b"bad.example") == FALLBACK
    assert [name for name, _ in noted] == ["n/bad"]
    assert chosen(made, b"bad.example") == FALLBACK
    assert (len(place), len(noted)) == (2, 1)


def test_the_context_that_was_used_longest_ago_makes_room() -> None:
    place = built(limit=2)
    made = build_contexts(
        no_contexts(WILD, place, strict=False),
        [
            *certificates(a=SHOP, b=SHOP, c=SHOP),
            *server_names({f"{name}.example": name for name in "abc"}),
        ],
    )
    kept = made.choose(b"b.example"), made.choose(b"c.example")
    assert made.choose(b"b.example") is kept[0]
    assert chosen(made, b"a.example") == "n/a"

    assert made.choose(b"b.example") is kept[0]
    assert made.choose(b"c.example") is not kept[1]
    assert len(place) == 2


def test_contexts_of_what_is_replaced_or_removed_are_let_go() -> None:
    place = built()
    current = CurrentContexts(
        build_contexts(
            no_contexts(WILD, place, strict=False),
            [*certificates(a=SHOP, b=SHOP), *server_names({"a.example": "a"})],
        )
    )
    bad = Certificate(chain=SHOP.chain, key=WILD.key)

    current.swap(build_contexts(current.current, certificates(a=certificate("a"), b=None)))
    assert len(place) == 1
    good = current.current.choose(b"a.example")
    current.swap(build_contexts(current.current, certificates(a=bad)))
    assert current.current.choose(b"a.example") is good
    current.swap(build_contexts(current.current, certificates(a=None)))
    assert len(place) == 0


def test_small_suites_come_first_and_every_suite_is_there() -> None:
    names = [cipher["name"] for cipher in openssl_context(SHOP).context.get_ciphers()]

    assert tuple(names[:3]) == PREFERRED


def test_an_order_that_somebody_chose_in_the_configuration_of_openssl_stays(
    tmp_path: Path,
) -> None:
    """In a process of its own: OpenSSL reads its configuration once."""
    config = tmp_path / "openssl.cnf"
    config.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
        "Ciphersuites = TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256\n"
    )
    program = (
        "import ssl; from fairway_dataplane.tls.openssl import prefer_small_suites as prefer;"
        "made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); print(prefer(made),"
        "*(one['name'] for one in made.get_ciphers() if one['protocol'] == 'TLSv1.3'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OPENSSL_CONF": str(config)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [
        "False",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    ]
