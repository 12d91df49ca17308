"""
Leaves to bytes and back, in one way only.

Equal leaves have equal bytes on every replica, because the digest of the bytes
is the leaf's identity: fields stand in the order of their declaration, and
defaults are left out (:mod:`fairway_snapshot.record`). A reader refuses a field, a
filter or a value that it does not know, and bytes that it would have written
differently: what cannot be understood in full must not be served in part.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fairway_snapshot.model import Backend, Certificate, Leaf, Section, ServerName, VirtualHost
from fairway_snapshot.secret import SecretBytes

MAX_BLOB_BYTES: Final = 16 * 1024 * 1024
"""The largest encoded node that is written or read."""


class SnapshotRefused(Exception):  # noqa: N818 - a verdict on a snapshot, not a fault of ours
    """A snapshot, or a part of one, cannot be used; the reason is for people and holds no value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def section_of(leaf: Leaf) -> Section:
    """Return the section that a leaf belongs in."""
    return _SECTIONS[type(leaf)]


def encode_leaf(leaf: Leaf) -> bytes:
    """
    Return the canonical bytes of a leaf.

    Raises ValueError for a leaf that no reader could take: a field of another
    type than declared, or more than :data:`MAX_BLOB_BYTES`.
    """
    # Python takes 30 for the float 30.0, their bytes differ: what was read back is what is kept.
    decoder = _DECODERS[section_of(leaf)]
    try:
        blob = _encode(decoder.decode(_encode(leaf)))
    except (msgspec.MsgspecError, OverflowError, TypeError) as error:
        raise ValueError(f"this {type(leaf).__name__} has no encoded form: {error}") from error
    if len(blob) > MAX_BLOB_BYTES:
        raise ValueError(f"a leaf of {len(blob)} bytes is over the limit of {MAX_BLOB_BYTES}")
    return blob


def decode_leaf(section: Section, blob: bytes) -> Leaf:
    """Return the leaf; raises :class:`SnapshotRefused` for anything but its canonical bytes."""
    if len(blob) > MAX_BLOB_BYTES:
        raise SnapshotRefused(f"a leaf of {section} is over {MAX_BLOB_BYTES} bytes")
    try:
        leaf = _DECODERS[section].decode(blob)
        canonical = _encode(leaf)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SnapshotRefused(f"a leaf of {section} cannot be read: {error}") from error
    if canonical != blob:
        raise SnapshotRefused(f"a leaf of {section} is not in canonical form")
    return leaf


def _reveal(value: Any) -> bytes:
    if isinstance(value, SecretBytes):
        return value.reveal()
    raise NotImplementedError(f"a {type(value).__name__} has no encoded form")


def _conceal(kind: type, value: Any) -> SecretBytes:
    if kind is SecretBytes and isinstance(value, bytes):
        return SecretBytes(value)
    raise NotImplementedError(f"a {kind.__name__} cannot be decoded")


_encode = msgspec.msgpack.Encoder(enc_hook=_reveal).encode

_SECTIONS: Final[Mapping[type[Leaf], Section]] = {
    VirtualHost: Section.HOSTS,
    Backend: Section.BACKENDS,
    Certificate: Section.CERTIFICATES,
    ServerName: Section.SERVER_NAMES,
}

_DECODERS: Final[Mapping[Section, msgspec.msgpack.Decoder[Leaf]]] = {
    section: msgspec.msgpack.Decoder(kind, dec_hook=_conceal) for kind, section in _SECTIONS.items()
}
