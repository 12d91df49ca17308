"""
Annotations of a Service.

``fairway.dev/balance: least-requests``, ``fairway.dev/backend-protocol: https``.
They stand on the Service because a backend is shared by all that refer to it.
"""

from fairway_snapshot.model import BackendProtocol, Balance


def parse_balance(text: str) -> Balance:
    """Return how an endpoint is chosen."""
    try:
        return Balance(text)
    except ValueError:
        words = ", ".join(Balance)
        raise ValueError(f"{text[:40]!r} is not a way to balance; write one of {words}") from None


def parse_protocol(text: str) -> BackendProtocol:
    """Return what is spoken to the endpoints."""
    try:
        return BackendProtocol(text.lower())
    except ValueError:
        words = ", ".join(BackendProtocol)
        raise ValueError(f"{text[:40]!r} is not a protocol; write one of {words}") from None
