"""
TLS sections to server names.

A Secret comes from the namespace of its object only. One that is missing or
useless is reported, and its hosts get the default certificate; others are not
affected.

Two sections of one object may give a host two certificates whose keys are of
different kinds: both are served, and each client gets the one that it can
take.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from fairway_operator.compiler.contribution import Age, CertificateSource, NameClaim, pair_of
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.hosts import covered
from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.model import HostPattern


class TlsSection(NamedTuple):
    """One certificate and the hosts that it is for."""

    hosts: tuple[HostPattern, ...]
    """Empty means every host of the object."""
    secret: str | None
    """None is the default certificate."""
    field: str
    """Where the Secret is named."""


class TlsOutcome(NamedTuple):
    """What the TLS sections of an object come to."""

    claims: Mapping[HostPattern, NameClaim]
    secure: frozenset[HostPattern]
    """Hosts of the object that are served over TLS."""
    findings: tuple[Finding, ...]


class TlsSections:
    """The sections of one object on their way to claims; work is linear in its size."""

    __slots__ = ("_age", "_claims", "_findings", "_kinds", "_lookup", "_owner", "_secure", "_seen")

    def __init__(self, lookup: Lookup, owner: ObjectRef, age: Age) -> None:
        self._lookup = lookup
        self._owner = owner
        self._age = age
        self._claims: dict[HostPattern, NameClaim] = {}
        self._secure: set[HostPattern] = set()
        self._seen: set[tuple[ObjectRef, bool]] = set()
        """Secrets, with and without hosts: to say the same of every host again changes nothing."""
        self._kinds: dict[ObjectRef, str] = {}
        self._findings: list[Finding] = []

    def outcome(self, sections: Iterable[TlsSection], hosts: Iterable[HostPattern]) -> TlsOutcome:
        """Work through the sections; ``hosts`` are those of the object's rules."""
        served, given = tuple(hosts), tuple(sections)
        listed = {pattern for section in given for pattern in section.hosts}
        all_of_them = any(not section.hosts for section in given)
        unlisted = [host for host in served if not (all_of_them or covered(host, listed))]
        self._secure.update(set(served).difference(unlisted))
        for section in given:
            if section.secret is not None:
                self._claim(section, section.secret, served, unlisted)
        return TlsOutcome(self._claims, frozenset(self._secure), tuple(self._findings))

    def _claim(
        self,
        section: TlsSection,
        secret: str,
        served: tuple[HostPattern, ...],
        unlisted: list[HostPattern],
    ) -> None:
        ref = ObjectRef(Kind.SECRET, self._owner.namespace, secret)
        checked = self._lookup.certificate(ref)
        if checked is None:
            self._note(
                section,
                Reason.UNKNOWN_SECRET,
                f"there is no Secret {secret!r} in namespace {ref.namespace!r};"
                " the default certificate is served",
                "create the Secret, of type kubernetes.io/tls, or correct the name",
            )
            return
        if checked.certificate is None:
            self._note(
                section,
                Reason.INVALID_CERTIFICATE,
                f"Secret {secret!r} {checked.problem}; the default certificate is served",
                "put a matching pair into tls.crt and tls.key",
            )
            return
        if checked.problem:
            self._note(
                section,
                Reason.INVALID_CERTIFICATE,
                f"the certificate in Secret {secret!r} {checked.problem}",
                severity=Severity.WARNING,
            )
        self._kinds[ref] = checked.key_kind
        names = frozenset(checked.names)
        wanted = section.hosts or (served if self._is_new(ref, named=False) else ())
        by_name: list[HostPattern] = []
        if self._is_new(ref, named=True):
            # A host that no section lists is still served if the certificate is for it.
            by_name = [host for host in unlisted if host and covered(host, names)]
        self._secure.update(by_name)
        for host in (*wanted, *by_name):
            self._claims[host] = self._joined(host, ref, section)
        self._warn_unserved(section, ref)
        missing = next((host for host in wanted if host and not covered(host, names)), None)
        if missing is not None and names:
            self._warn_uncovered(section, secret, missing, checked.names)

    def _joined(self, host: HostPattern, secret: ObjectRef, section: TlsSection) -> NameClaim:
        """Return the claim to a name with this Secret, too, where it can be served beside."""
        known = self._claims.get(host)
        if known is None:
            source = CertificateSource(secret)
            return NameClaim(host, self._age, source, self._owner, section.field)
        first, second = known.source
        kinds = {self._kinds[first], self._kinds[secret]}
        if second is not None or len(kinds) == 1 or "" in kinds:
            return known
        return msgspec.structs.replace(known, source=pair_of(first, secret))

    def _is_new(self, secret: ObjectRef, *, named: bool) -> bool:
        before = len(self._seen)
        self._seen.add((secret, named))
        return len(self._seen) > before

    def _warn_unserved(self, section: TlsSection, secret: ObjectRef) -> None:
        """Tell of a host whose certificates from earlier sections leave no place for this one."""
        claims = self._claims
        lost = next((host for host in section.hosts if secret not in claims[host].source), None)
        if lost is not None:
            self._note(
                section,
                Reason.CONFLICT,
                f"{lost or 'every host'} has the certificate of {claims[lost].source}"
                " from an earlier section; that one is served",
                "list each host once, or twice with keys of different kinds (ECDSA and RSA)",
                severity=Severity.WARNING,
            )

    def _warn_uncovered(
        self, section: TlsSection, secret: str, missing: HostPattern, names: tuple[str, ...]
    ) -> None:
        self._note(
            section,
            Reason.HOST_NOT_COVERED,
            f"the certificate in Secret {secret!r} is not for {missing}; clients will refuse it",
            f"it is for {', '.join(names[:8])}",
            severity=Severity.WARNING,
        )

    def _note(
        self,
        section: TlsSection,
        reason: Reason,
        message: str,
        hint: str = "",
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        self._findings.append(
            Finding(
                subject=self._owner,
                field=section.field,
                reason=reason,
                severity=severity,
                message=message,
                hint=hint,
            )
        )
