"""
Which certificate answers a server name.

A :class:`Contexts` is a value: it is built beside the one in use and replaces
it by one assignment, so a handshake sees either the old certificates or the
new ones and none fails in between (connections that exist keep theirs). The
one rule: a certificate that cannot be loaded is refused alone, its last good
form goes on serving, and the reason is told once.

There is one context for each certificate, shared by all of its names and
connections. To make one takes a millisecond and up to 20 KB, so not all exist
(:class:`BuiltContexts`): those of a small change are made with it, so that what
OpenSSL refuses is known at once, and those of a large one by their first
client. That a key belongs to its certificate was seen by the operator, once
for all workers.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fairway_dataplane.tls.certificates import CertificateRefused
from fairway_dataplane.tls.engine import ServerContext
from fairway_dataplane.tls.serving import server_context
from fairway_dataplane.tls.tickets import TicketKeys
from fairway_snapshot.diff import Change
from fairway_snapshot.model import Certificate, CertificateId, Section, ServerName

FALLBACK = CertificateId("")
"""Id of the self-signed certificate that answers where there is no better one."""

BUILT_LIMIT = 1024
"""Contexts that exist at once, 20 MB of them; beyond, the one that was used longest ago goes."""

AT_ONCE_LIMIT = 256
"""Certificates of one change that are built with it, in a quarter of a second."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that is ready to serve."""

    certificate: CertificateId
    context: ServerContext


class Leaf:
    """A certificate in one form: it is never changed, but what is known of it grows."""

    __slots__ = ("before", "certificate", "content", "proved", "refused")

    def __init__(
        self, certificate: CertificateId, content: Certificate, replaced: "Leaf | None"
    ) -> None:
        self.certificate = certificate
        self.content = content
        self.proved = False
        """OpenSSL has loaded it."""
        self.refused = ""
        """Why OpenSSL does not load it."""
        self.before = replaced
        """What serves if this is refused: the last that was proved, or else the first."""
        if replaced is not None and not replaced.proved:
            self.before = replaced.before or replaced

    def prove(self) -> None:
        """Need no other form any more."""
        self.proved = True
        self.before = None


class BuiltContexts:
    """The contexts that exist, and the only place where one is made."""

    __slots__ = ("_kept", "_limit", "_refused", "_tickets")

    def __init__(
        self,
        tickets: TicketKeys,
        refused: Callable[[CertificateId, str], None],
        *,
        limit: int = BUILT_LIMIT,
    ) -> None:
        """``refused`` is told of each form that OpenSSL does not load, and why, once."""
        self._tickets = tickets
        self._refused = refused
        self._limit = limit
        self._kept: dict[Leaf, tuple[Identity, int]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def __call__(self, leaf: Leaf) -> Identity | None:
        """Return what serves a certificate: this form of it, an earlier one, or nothing."""
        kept = self._kept.get(leaf)
        if kept is not None and kept[1] == self._tickets.period:
            if len(self._kept) * 2 > self._limit:
                self._kept[leaf] = self._kept.pop(leaf)
            return kept[0]
        if kept is not None:
            return self._keep(leaf, kept[0])
        if not leaf.refused:
            try:
                context = server_context(leaf.content)
            except CertificateRefused as refusal:
                leaf.refused = str(refusal)
                self._refused(leaf.certificate, leaf.refused)
            else:
                leaf.prove()
                return self._keep(leaf, Identity(leaf.certificate, context))
        return None if leaf.before is None else self(leaf.before)

    def keep(self, contexts: "Contexts") -> None:
        """Let go of all that ``contexts`` do not serve."""
        for leaf in tuple(self._kept):
            if not contexts.serves(leaf):
                del self._kept[leaf]

    def _keep(self, leaf: Leaf, identity: Identity) -> Identity:
        self._kept.pop(leaf, None)
        while len(self._kept) >= self._limit:
            del self._kept[next(iter(self._kept))]
        identity.context.use_ticket_keys(self._tickets.key(leaf.content.chain))
        self._kept[leaf] = identity, self._tickets.period
        return identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """Every server name and the certificate that answers it; never changed once built."""

    built: BuiltContexts
    fallback: Leaf
    """Answers when the snapshot has no default certificate, or the chosen one cannot be loaded."""

    strict: bool
    """Refuse a hello whose name is unknown or missing, instead of answering by default."""

    exact: Mapping[bytes, CertificateId] = field(default_factory=dict)
    wildcard: Mapping[bytes, CertificateId] = field(default_factory=dict)
    """By the name without its first label, as in ``.shop.example``."""

    default: CertificateId = FALLBACK
    leaves: Mapping[CertificateId, Leaf] = field(default_factory=dict)

    def choose(self, server_name: bytes) -> Identity | None:
        """
        Return who answers; None means ``unrecognized_name``.

        An exact name beats a wildcard, which stands for one label; both beat the default.
        """
        certificate = self._named(server_name)
        if certificate is None and self.strict:
            return None
        leaf = self.leaves.get(certificate or self.default)
        found = None if leaf is None else self.built(leaf)
        # The certificate of a name may be missing or bad: its other routes still serve.
        return found or self._default()

    def covers(self, certificate: CertificateId, host: bytes) -> bool:
        """Tell whether ``certificate`` is the one that answers for a host; builds nothing."""
        named = self._named(host)
        if named is None and self.strict:
            return False
        for wanted in (named, self.default):
            leaf = None if wanted is None else self.leaves.get(wanted)
            if leaf is not None and (leaf.before is not None or not leaf.refused):
                return leaf.certificate == certificate
        return certificate == FALLBACK

    def serves(self, leaf: Leaf) -> bool:
        """Tell whether a form of a certificate may still be asked for."""
        current = self.leaves.get(leaf.certificate, self.fallback)
        return leaf in (current, current.before)

    def _default(self) -> Identity | None:
        leaf = self.leaves.get(self.default)
        found = None if leaf is None else self.built(leaf)
        return found or self.built(self.fallback)

    def _named(self, name: bytes) -> CertificateId | None:
        found = self.exact.get(name)
        if found is None:
            dot = name.find(b".")
            found = self.wildcard.get(name[dot:]) if dot > 0 else None
        return found


class CurrentContexts:
    """The contexts in use. One writer, the snapshot stream; every handshake reads."""

    __slots__ = ("current",)

    def __init__(self, contexts: Contexts) -> None:
        self.current = contexts

    def swap(self, contexts: Contexts) -> Contexts:
        """Publish ``contexts`` and return those they replace."""
        previous, self.current = self.current, contexts
        contexts.built.keep(contexts)
        return previous


def no_contexts(fallback: Certificate, built: BuiltContexts, *, strict: bool) -> Contexts:
    """Return contexts that know ``fallback`` only, which must be good."""
    return Contexts(built=built, fallback=Leaf(FALLBACK, fallback, None), strict=strict)


def build_contexts(previous: Contexts, changes: Iterable[Change]) -> Contexts:
    """Return ``previous`` with the changes of its two sections applied; others are skipped."""
    steps = build_contexts_in_steps(previous, changes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            built: Contexts = end.value
            return built


def build_contexts_in_steps(
    previous: Contexts, changes: Iterable[Change]
) -> Generator[None, None, Contexts]:
    """
    Do as :func:`build_contexts`, and stop at each name and after each certificate.

    Loading one takes most of a millisecond, so a caller on an event loop that
    serves lets other work run at some stops.
    """
    certificates: dict[str, Certificate | None] = {}
    names: dict[str, ServerName | None] = {}
    for change in changes:
        if change.section is Section.CERTIFICATES:
            assert change.after is None or isinstance(change.after, Certificate)
            certificates[change.key] = change.after
        elif change.section is Section.SERVER_NAMES:
            assert change.after is None or isinstance(change.after, ServerName)
            names[change.key] = change.after
    made = previous
    if names:
        made = yield from _with_names(made, names)
    if certificates:
        made = yield from _with_certificates(made, certificates)
    return made


def _with_names(
    contexts: Contexts, names: Mapping[str, ServerName | None]
) -> Generator[None, None, Contexts]:
    exact, wildcard = dict(contexts.exact), dict(contexts.wildcard)
    default = contexts.default
    for pattern, leaf in names.items():
        yield
        if not pattern:
            default = FALLBACK if leaf is None else leaf.certificate
            continue
        table = wildcard if pattern.startswith("*.") else exact
        _put(table, pattern.removeprefix("*").encode(), leaf.certificate if leaf else None)
    return replace(contexts, exact=exact, wildcard=wildcard, default=default)


def _with_certificates(
    contexts: Contexts, certificates: Mapping[str, Certificate | None]
) -> Generator[None, None, Contexts]:
    leaves = dict(contexts.leaves)
    for name, content in certificates.items():
        certificate = CertificateId(name)
        replaced = leaves.pop(certificate, None)
        if content is not None:
            leaves[certificate] = leaf = Leaf(certificate, content, replaced)
            if len(certificates) <= AT_ONCE_LIMIT:
                contexts.built(leaf)
        yield
    return replace(contexts, leaves=leaves)


_K = TypeVar("_K")
_V = TypeVar("_V")


def _put(table: dict[_K, _V], key: _K, value: _V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
