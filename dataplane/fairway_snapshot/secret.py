"""
Bytes that must not be shown.

A private key travels inside the snapshot, so everything that prints a snapshot
(``repr``, a log field, a traceback) would print the key. :class:`SecretBytes`
makes that impossible by default: the content is reached only by calling
:meth:`SecretBytes.reveal`, which is easy to search for.
"""

import hmac


class SecretBytes:
    """An immutable byte string whose ``repr`` is redacted; compared in constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the content."""
        return self._value

    def __repr__(self) -> str:
        """Show nothing of the content."""
        return "SecretBytes(redacted)"

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        return isinstance(other, SecretBytes) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(self._value)
