"""
The name of a node: the SHA-256 of its encoded form.

A digest covers the digests of the node's children, so one digest names a
whole snapshot, and whoever holds it can verify every byte below it.
"""

import hashlib
from typing import NewType

Digest = NewType("Digest", bytes)
"""32 bytes."""


def digest_of(blob: bytes) -> Digest:
    """Return the digest of an encoded node."""
    return Digest(hashlib.sha256(blob).digest())


def short(digest: Digest) -> str:
    """Return the first 12 hex digits, for people; programs compare the whole."""
    return digest.hex()[:12]
