"""
The certificate authority of the stream: who may send and who may receive snapshots.

A snapshot holds private keys, so both ends of the stream show a certificate
from this authority and from no other. An :class:`Authority` is a value: the
signing pair, perhaps its successor, and all that is still trusted. Where the
value is kept (a Secret, or the memory of ``fairway dev``) is not known here.

The one rule of rotation: an authority is trusted everywhere before it signs
anything, and stays trusted until it expires.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fairway_snapshot.secret import SecretBytes

OPERATOR_NAME = "fairway-operator"
"""DNS name in every operator's certificate; what a subscriber checks, wherever it connects."""


class Role(StrEnum):
    """What a certificate may be used for; written into it as ``spiffe://fairway.dev/<role>``."""

    OPERATOR = "operator"
    DATAPLANE = "dataplane"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate chain and its key as PEM, and whom its holder should trust."""

    chain: bytes
    key: SecretBytes
    trusted: bytes
    """PEM of every authority that a peer's certificate may come from."""
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long certificates live."""

    authority: timedelta = timedelta(days=365)
    overlap: timedelta = timedelta(days=7)
    certificate: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority and its successor."""

    def issue(
        self, role: Role, names: Sequence[str], *, now: datetime, lifetimes: Lifetimes
    ) -> Credentials:
        """Issue a certificate for ``role``; ``names`` are DNS names or IP addresses."""
        raise NotImplementedError

    def renewed(self, *, now: datetime, lifetimes: Lifetimes) -> "Authority":
        """Return the authority as it should be at ``now``; the same value when nothing is due."""
        raise NotImplementedError

    def to_files(self) -> dict[str, bytes]:
        """Return the content of the authority's Secret."""
        raise NotImplementedError


def create_authority(*, now: datetime, lifetimes: Lifetimes) -> Authority:
    """Make a new authority."""
    raise NotImplementedError


def authority_from_files(files: Mapping[str, bytes]) -> Authority:
    """Read what :meth:`Authority.to_files` wrote. Raises ValueError."""
    raise NotImplementedError


def is_due(credentials: Credentials, *, now: datetime) -> bool:
    """Say whether two thirds of the certificate's life are over."""
    raise NotImplementedError
