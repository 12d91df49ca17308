"""
The World as one object may see it.

Every question is noted, so the compiler knows which objects to compile again
when an answer changes. The answer "it is not there" is noted as well.
"""

from fairway_operator.compiler.certificates import CertificateChecks, CheckedCertificate
from fairway_operator.compiler.settings import CompilerSettings
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import IngressClass, Service
from fairway_operator.resources.reference_grant import GrantFrom, GrantTo
from fairway_operator.world import World


class Lookup:
    """Answers questions about one World, and notes them."""

    __slots__ = ("_checks", "_world", "needs", "settings")

    def __init__(self, world: World, settings: CompilerSettings, checks: CertificateChecks) -> None:
        self._world = world
        self._checks = checks
        self.settings = settings
        self.needs: set[ObjectRef] = set()

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service."""
        ref = ObjectRef(Kind.SERVICE, namespace, name)
        self.needs.add(ref)
        return self._world.service(ref)

    def ingress_class(self, name: str) -> IngressClass | None:
        """Return a class."""
        self.needs.add(ObjectRef(Kind.INGRESS_CLASS, "", name))
        return self._world.ingress_class(name)

    def certificate(self, ref: ObjectRef) -> CheckedCertificate | None:
        """Return what a Secret holds; None where there is no such Secret."""
        self.needs.add(ref)
        secret = self._world.secret(ref)
        return None if secret is None else self._checks.check(secret)

    def permits(self, source: GrantFrom, target: GrantTo, namespace: str) -> bool:
        """Tell whether a grant in ``namespace`` lets ``source`` refer to ``target`` there."""
        self.needs.add(grants_of(namespace))
        return any(grant.permits(source, target) for grant in self._world.grants(namespace))


def grants_of(namespace: str) -> ObjectRef:
    """Return the name under which all grants of a namespace are noted together."""
    return ObjectRef(Kind.REFERENCE_GRANT, namespace, "")
