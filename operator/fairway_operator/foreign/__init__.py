"""
Annotations of other controllers: what their author meant, as far as it can be had here.

Ingresses arrive with annotations of the controller that they were written for.
Those of ingress-nginx are read one by one (:mod:`fairway_operator.foreign.nginx`,
``docs/ingress-nginx.md``): what means the same here is honoured, of the rest the
object says what is missing and what to write instead. Of other controllers no
annotation is read, and the object says so.

The one rule: what restricted access must not be lost in silence. An Ingress
with such an annotation answers 503 until somebody has decided.
"""

from collections.abc import Sequence

from fairway_operator.foreign import nginx
from fairway_operator.foreign.adoption import NGINX, Adopted, Adoption
from fairway_operator.foreign.paths import ServedPath, serve_path
from fairway_operator.refs import ObjectRef

__all__ = ["NOTHING", "Adopted", "ServedPath", "adopt", "serve_path"]

NOTHING = Adopted()
"""Of an object without annotations of other controllers."""

_GUARDS = frozenset(
    {
        "acl", "allowlist", "auth", "authentication", "authorization", "blacklist", "cidrs",
        "denylist", "jwt", "middlewares", "modsecurity", "mtls", "oauth", "oauth2", "oidc",
        "plugins", "policies", "verify", "waf", "wafv2", "whitelist",
    }
)  # fmt: skip
"""Words in names of annotations that may keep somebody out."""

_NOBODY = frozenset({"", "0", "0.0.0.0/0", "::/0", "disabled", "false", "none", "off"})
"""Values with which they do not."""


def adopt(
    subject: ObjectRef, given: Sequence[tuple[str, str]], ignored: Sequence[str] = ()
) -> Adopted:
    """
    Return what the annotations come to; names come with their prefix.

    ``ignored`` are those that the author knows to have no effect: names, or
    ``prefix/*``.
    """
    read = [(name, value) for name, value in given if not _is_ignored(name, ignored)]
    if not read:
        return NOTHING
    adoption = Adoption(subject, dict(read))
    for name, value in read:
        if name.startswith(NGINX):
            nginx.read(adoption, name.removeprefix(NGINX), value)
        elif _GUARDS.isdisjoint(_words(name)) or _keeps_nobody_out(value):
            adoption.warn(
                name,
                "this annotation of another controller has no effect here",
                "write the fairway.dev annotation or the Route that does the same",
            )
        else:
            adoption.close(
                name,
                "this annotation of another controller may restrict who is served, and is not"
                " understood here",
                "restrict access where it is understood",
            )
    return adoption.outcome()


def _is_ignored(name: str, ignored: Sequence[str]) -> bool:
    return name in ignored or f"{name.partition('/')[0]}/*" in ignored


def _keeps_nobody_out(value: str) -> bool:
    return _NOBODY.issuperset(part.strip().lower() for part in value.split(","))


def _words(name: str) -> set[str]:
    return set(name.partition("/")[2].lower().replace(".", "-").split("-"))
