"""
TLS sections to server names.

A Secret comes from the namespace of its object only. One that is missing or
useless is reported, and its hosts get the default certificate; others are not
affected.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fairway_operator.compiler.contribution import Age, NameClaim
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.hosts import ANY_HOST, covers
from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.model import CertificateId, HostPattern


class TlsSection(NamedTuple):
    """One certificate and the hosts that it is for."""

    hosts: tuple[HostPattern, ...]
    """Empty means every host of the object."""
    secret: str | None
    """None is the default certificate."""
    field: str


class TlsOutcome(NamedTuple):
    """What the TLS sections of an object come to."""

    claims: tuple[NameClaim, ...]
    secure: frozenset[HostPattern]
    """Hosts of the object that are served over TLS."""
    findings: tuple[Finding, ...]


class TlsSections:
    """The sections of one object on their way to claims."""

    __slots__ = ("_age", "_claims", "_findings", "_lookup", "_owner", "_secure")

    def __init__(self, lookup: Lookup, owner: ObjectRef, age: Age) -> None:
        self._lookup = lookup
        self._owner = owner
        self._age = age
        self._claims: dict[HostPattern, NameClaim] = {}
        self._secure: set[HostPattern] = set()
        self._findings: list[Finding] = []

    def outcome(self, sections: Iterable[TlsSection], hosts: Iterable[HostPattern]) -> TlsOutcome:
        """Work through the sections; ``hosts`` are those of the object's rules."""
        served = tuple(hosts)
        for section in sections:
            self._secure.update(
                host
                for host in served
                if not section.hosts or any(covers(pattern, host) for pattern in section.hosts)
            )
            if section.secret is not None:
                self._claim(section, section.secret, served)
        return TlsOutcome(
            tuple(self._claims.values()), frozenset(self._secure), tuple(self._findings)
        )

    def _claim(self, section: TlsSection, secret: str, served: tuple[HostPattern, ...]) -> None:
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
        wanted = section.hosts or served
        # A host of the object that no section lists is still served if the certificate is for it.
        by_name = [host for host in served if host and _names_cover(checked.names, host)]
        self._secure.update(by_name)
        for host in (*wanted, *by_name):
            claim = NameClaim(
                host, self._age, CertificateId(f"{ref.namespace}/{secret}"), ref,
                self._owner, section.field,
            )  # fmt: skip
            self._claims.setdefault(host, claim)
        self._warn_uncovered(section, secret, checked.names, wanted)

    def _warn_uncovered(
        self,
        section: TlsSection,
        secret: str,
        names: tuple[str, ...],
        wanted: tuple[HostPattern, ...],
    ) -> None:
        missing = [host for host in wanted if host != ANY_HOST and not _names_cover(names, host)]
        if missing and names:
            self._note(
                section,
                Reason.HOST_NOT_COVERED,
                f"the certificate in Secret {secret!r} is not for {missing[0]};"
                " clients will refuse it",
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
                field=f"{section.field}.secretName",
                reason=reason,
                severity=severity,
                message=message,
                hint=hint,
            )
        )


def _names_cover(names: tuple[str, ...], host: str) -> bool:
    return any(covers(name, host) for name in names)
