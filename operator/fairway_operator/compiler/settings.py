"""What the compiler can be told."""

from typing import Final

import msgspec

from fairway_operator.refs import ObjectRef

CONTROLLER_NAME: Final = "fairway.dev/ingress-controller"


class CompilerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one compiler; all replicas must have the same."""

    controller_name: str = CONTROLLER_NAME
    """``spec.controller`` of the IngressClasses that are ours; case-sensitive."""
    watch_without_class: bool = False
    """Serve Ingresses that name no class at all; a Route always names one."""
    ssl_redirect: bool = True
    """Redirect plain requests for hosts with TLS, unless the Ingress says otherwise."""
    https_port: int = 443
    """Port that such a redirect names; 443 is left out of the location."""
    default_certificate: ObjectRef | None = None
    """Secret with the certificate of last resort."""
    allow_external_names: bool = True
    """Forward to Services of type ExternalName."""
    allow_local_addresses: bool = False
    """Forward to loopback and link-local addresses."""
    keep_last_good: bool = True
    """Serve the version before while a new version of an object has errors."""
