"""The authority through the years; handshakes are in test_publisher."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fairway_operator.authority import (
    OPERATOR_NAME,
    Authority,
    Credentials,
    Lifetimes,
    Role,
    authority_from_files,
    create_authority,
    credentials_from_files,
)

START = datetime(2030, 1, 1, tzinfo=UTC)
LIFETIMES = Lifetimes()
NAMES = (OPERATOR_NAME, "10.0.0.1")


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def trusts(trusted: bytes, credentials: Credentials, *, at: datetime) -> bool:
    """Say whether a peer with these authorities accepts the operator's certificate."""
    verifier = (
        PolicyBuilder()
        .store(Store(x509.load_pem_x509_certificates(trusted)))
        .time(at)
        .build_server_verifier(x509.DNSName(OPERATOR_NAME))
    )
    try:
        verifier.verify(x509.load_pem_x509_certificate(credentials.chain), [])
    except VerificationError:
        return False
    return True


def end_of(certificate: bytes) -> datetime:
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def issue(authority: Authority, role: Role, at: datetime) -> Credentials:
    return authority.issue(role, NAMES, now=at, lifetimes=LIFETIMES)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(now=START, lifetimes=LIFETIMES)


def test_a_certificate_names_its_role_and_its_purpose(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(issue(authority, Role.DATAPLANE, START).chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://fairway.dev/dataplane"
    ]
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_an_operator_is_trusted_by_name(authority: Authority) -> None:
    assert trusts(authority.trusted, issue(authority, Role.OPERATOR, START), at=day(1))


def test_another_authority_is_not_trusted(authority: Authority) -> None:
    other = create_authority(now=START, lifetimes=LIFETIMES)

    assert not trusts(other.trusted, issue(authority, Role.OPERATOR, START), at=day(1))


def test_a_certificate_is_valid_where_the_clock_is_an_hour_behind(authority: Authority) -> None:
    credentials = issue(authority, Role.OPERATOR, START)

    assert trusts(authority.trusted, credentials, at=START - timedelta(hours=1))


def test_certificates_are_due_after_two_thirds_of_their_life(authority: Authority) -> None:
    credentials = issue(authority, Role.DATAPLANE, START)

    assert not credentials.is_due(authority, now=day(19.9))
    assert credentials.is_due(authority, now=day(20.1))


def test_certificates_are_due_at_once_when_another_authority_is_trusted(
    authority: Authority,
) -> None:
    credentials = issue(authority, Role.DATAPLANE, START)

    assert credentials.is_due(authority.renewed(now=day(244), lifetimes=LIFETIMES), now=START)


def test_nothing_is_renewed_early(authority: Authority) -> None:
    assert authority.renewed(now=day(243), lifetimes=LIFETIMES) == authority


def test_a_successor_is_trusted_before_it_signs(authority: Authority) -> None:
    overlapping = authority.renewed(now=day(244), lifetimes=LIFETIMES)
    assert overlapping.signing == authority.signing
    assert overlapping.renewed(now=day(250), lifetimes=LIFETIMES) == overlapping

    switched = overlapping.renewed(now=day(252), lifetimes=LIFETIMES)

    assert switched.signing == overlapping.successor
    assert switched.trusted == overlapping.trusted


def test_peers_trust_each_other_on_every_day_of_ten_years() -> None:
    """Who renewed long ago and who renews now understand each other."""
    authority = create_authority(now=START, lifetimes=LIFETIMES)
    late = issue(authority, Role.OPERATOR, START)
    generations = {authority.signing.certificate}
    for number in range(0, 3650, 2):
        authority = authority.renewed(now=day(number), lifetimes=LIFETIMES)
        generations.add(authority.signing.certificate)
        if late.is_due(authority, now=day(number)):
            prompt = issue(authority, Role.OPERATOR, day(number))
            assert trusts(late.trusted, prompt, at=day(number))
            assert trusts(prompt.trusted, late, at=day(number))
            late = prompt

    assert len(generations) > 10


def test_what_has_expired_is_not_trusted_for_ever(authority: Authority) -> None:
    overlapping = authority.renewed(now=day(244), lifetimes=LIFETIMES)
    switched = overlapping.renewed(now=day(252), lifetimes=LIFETIMES)

    later = switched.renewed(now=day(366), lifetimes=LIFETIMES)

    assert authority.signing.certificate not in later.trusted


def test_an_operator_that_slept_for_years_starts_anew(authority: Authority) -> None:
    awake = authority.renewed(now=day(4000), lifetimes=LIFETIMES)

    assert trusts(awake.trusted, issue(awake, Role.OPERATOR, day(4000)), at=day(4001))


def test_a_certificate_does_not_outlive_its_authority(authority: Authority) -> None:
    credentials = issue(authority, Role.DATAPLANE, day(360))

    assert end_of(credentials.chain) == end_of(authority.signing.certificate)


def test_files_and_back(authority: Authority) -> None:
    overlapping = authority.renewed(now=day(244), lifetimes=LIFETIMES)
    switched = overlapping.renewed(now=day(252), lifetimes=LIFETIMES)
    credentials = issue(authority, Role.DATAPLANE, START)

    for each in (authority, overlapping, switched):
        assert authority_from_files(each.to_files()) == each
    assert credentials_from_files(credentials.to_files()) == credentials


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("tls.crt", b"", "tls.crt holds no certificates", id="no certificate"),
        pytest.param("tls.crt", b"-----BEGIN", "tls.crt holds no certificates", id="cut in half"),
        pytest.param("tls.key", b"secret", "tls.key is not a private key", id="no key"),
        pytest.param("ca.crt", b"", "ca.crt holds no certificates", id="trusts nobody"),
    ],
)
def test_broken_files_are_refused_by_name(
    authority: Authority, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        authority_from_files({**authority.to_files(), name: content})


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    other = create_authority(now=START, lifetimes=LIFETIMES).to_files()

    with pytest.raises(ValueError, match=r"tls\.key does not belong to tls\.crt"):
        authority_from_files({**authority.to_files(), "tls.key": other["tls.key"]})


def test_no_key_is_shown(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority) + repr(issue(authority, Role.DATAPLANE, START))
