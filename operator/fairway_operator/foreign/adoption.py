"""What the annotations of one Ingress come to, while they are read and afterwards."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from fairway_operator.annotations import RouteOptions, route_options
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import ANNOTATION_PREFIX
from fairway_snapshot.filters import FilterSpec, Redirect
from fairway_snapshot.model import HostPattern

NGINX: Final = "nginx.ingress.kubernetes.io/"

IGNORED: Final = f"{ANNOTATION_PREFIX}ignored-annotations"
"""Where an author says that nothing is lost without some annotations."""


class Adopted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What annotations of other controllers come to."""

    options: RouteOptions = RouteOptions()
    """What our own annotations would say; they go before it."""
    filters: tuple[FilterSpec, ...] = ()
    redirect: Redirect | None = None
    """The answer to every request of the object, instead of its backends."""
    aliases: tuple[HostPattern, ...] = ()
    """Further names of the first host."""
    forces_tls: bool = False
    """Requests without TLS are unwanted, also for hosts that have none here."""
    has_patterns: bool = False
    """Paths are regular expressions, matched from the start in any case."""
    rewrite_target: str | None = None
    is_closed: bool = False
    """Nobody is served: somebody may be kept out by what is not understood here."""
    is_shadow: bool = False
    """The object only modifies another one, and is none of its own."""
    findings: tuple[Finding, ...] = ()


class Adoption:
    """One Ingress being read; who reads an annotation notes here what it comes to."""

    def __init__(self, subject: ObjectRef, given: Mapping[str, str]) -> None:
        self.given = given
        """All that are read, by their whole names."""
        self.filters: list[FilterSpec] = []
        self.redirect: Redirect | None = None
        self.aliases: list[HostPattern] = []
        self.forces_tls = False
        self.has_patterns = False
        self.rewrite_target: str | None = None
        self.is_shadow = False
        self.unknown = 0
        """Names that are in no table, so far."""
        self._subject = subject
        self._settings: dict[str, tuple[str, str]] = {}
        self._is_closed = False
        self._trifles: list[str] = []
        self._findings: list[Finding] = []

    def set(self, origin: str, name: str, value: str) -> None:
        """Take what ``origin`` says for our own annotation ``name``, given without its prefix."""
        self._settings[name] = value, origin

    def warn(self, name: str, message: str, hint: str) -> None:
        """Say that an annotation has no effect; everything is served without it."""
        self._note(name, Severity.WARNING, Reason.FOREIGN_ANNOTATION, message, hint)

    def fail(self, name: str, message: str, hint: str) -> None:
        """Serve nobody, because without this annotation the object means something else."""
        self._is_closed = True
        self._note(name, Severity.ERROR, Reason.FOREIGN_ANNOTATION, message, hint)

    def close(self, name: str, message: str, hint: str) -> None:
        """Serve nobody, because an annotation that restricts access cannot be had."""
        self._is_closed = True
        self._note(
            name,
            Severity.ERROR,
            Reason.ACCESS_NOT_ENFORCED,
            f"{message}: all requests of this Ingress answer 503, so that nobody gets in by it",
            f"{hint}, and leave this annotation out; or name it in {IGNORED},"
            " if nothing is lost without it",
        )

    def trifle(self, name: str) -> None:
        """Note an annotation without which nothing is different for a client."""
        self._trifles.append(name)

    def outcome(self) -> Adopted:
        """Return what the annotations come to."""
        given = tuple(sorted((name, value) for name, (value, _) in self._settings.items()))
        options, problems = route_options(self._subject, given)
        for problem in problems:
            origin = self._settings[problem.field.partition(ANNOTATION_PREFIX)[2].rstrip("]")][1]
            self.warn(origin, f"{problem.message}; it has no effect", problem.hint)
        return Adopted(
            options=options,
            filters=tuple(self.filters),
            redirect=self.redirect,
            aliases=tuple(dict.fromkeys(self.aliases)),
            forces_tls=self.forces_tls,
            has_patterns=self.has_patterns,
            rewrite_target=self.rewrite_target,
            is_closed=self._is_closed,
            is_shadow=self.is_shadow,
            findings=(*self._findings, *self._about_trifles()),
        )

    def _note(self, name: str, severity: Severity, reason: Reason, message: str, hint: str) -> None:
        self._findings.append(
            Finding(
                subject=self._subject,
                field=f"metadata.annotations[{name}]",
                reason=reason,
                severity=severity,
                message=message,
                hint=hint,
            )
        )

    def _about_trifles(self) -> tuple[Finding, ...]:
        if not self._trifles:
            return ()
        names = ", ".join(name.partition("/")[2] for name in sorted(self._trifles))
        return (
            Finding(
                subject=self._subject,
                field="metadata.annotations",
                reason=Reason.FOREIGN_ANNOTATION,
                severity=Severity.INFO,
                message=f"of another controller, and without a meaning here: {names}",
                hint="leave them out; they tune that controller, or go with other annotations",
            ),
        )


Read: TypeAlias = Callable[[Adoption, str, str], None]
"""Notes what an annotation, by its whole name, and its value come to; ValueError has no effect."""
