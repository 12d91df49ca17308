"""
Keys of session tickets: the same in every worker, and others every few hours.

All workers of a data plane derive them from one secret of their supervisor, so
that a session is resumed by whichever worker the client reaches, also by one
that was started since. The one rule is that the secret only goes forward: each
period's is the hash of the one before, which is forgotten, so that nobody can
read the tickets of the past. OpenSSL knows one key at a time; a ticket from
before the turn costs its client a full handshake.
"""

import hashlib
import hmac
import os
import time

import msgspec

from fairway_dataplane.tls.openssl import TICKET_KEY_BYTES

PERIOD_SECONDS = 8 * 3600.0
"""RFC 8446 section 4.6.1 allows a week; tickets of OpenSSL are good for two hours."""


class TicketSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told."""

    secret: bytes
    period: int
    """Which one it is for: periods are counted on the machine's monotonic clock."""

    def __repr__(self) -> str:
        """Show the period alone."""
        return f"<TicketSecret period={self.period}>"


class TicketKeys:
    """The keys of now. Watched by the clock of a worker; a supervisor only asks for the secret."""

    __slots__ = ("_secret", "deadline", "period", "slot")

    period: int

    def __init__(self, told: TicketSecret) -> None:
        self._secret = told.secret
        self.period = told.period
        self.deadline = (told.period + 1) * PERIOD_SECONDS
        self.slot = 0

    def expire(self, now: float) -> None:
        """Go on to the period of ``now``; there is no way back."""
        while self.deadline <= now:
            self._secret = hashlib.sha256(b"next" + self._secret).digest()
            self.period += 1
            self.deadline += PERIOD_SECONDS

    def told(self, now: float) -> TicketSecret:
        """Return what to tell a worker that starts now."""
        self.expire(now)
        return TicketSecret(secret=self._secret, period=self.period)

    def key(self, chain: bytes) -> bytes:
        """Return the keys for a certificate: a ticket is good only for the one that issued it."""
        name = hmac.digest(self._secret, b"name" + chain, "sha256")[: TICKET_KEY_BYTES - 64]
        return name + hmac.digest(self._secret, b"keys" + chain, "sha512")


def new_ticket_keys() -> TicketKeys:
    """Return keys from a new secret."""
    period = int(time.monotonic() // PERIOD_SECONDS)
    return TicketKeys(TicketSecret(secret=os.urandom(32), period=period))
