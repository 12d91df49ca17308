"""
The last good snapshot, kept in one file.

A data plane that restarts while no operator answers serves what it served
before. The file is trusted no more than the network: it is read whole, its
checksum and then every node are verified, and anything that does not fit is
refused with the reason; the data plane then starts without it.

Private keys never reach a disk. A snapshot with certificates is kept only on a
memory-backed file system; elsewhere it is not kept, and neither is its
predecessor, because an older snapshot would bring back routes that are gone.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairway_snapshot.digest import Digest
from fairway_snapshot.protocol import Position
from fairway_snapshot.tree import EMPTY, Snapshot, SnapshotRefused, assemble

FILE_NAME = "snapshot"
MAGIC = b"FAIRWAY\n"
FORMAT = 1
SIZE_LIMIT_BYTES = 512 << 20
"""A file beyond this is not ours: a hundred thousand routes take a tenth of it."""

_HEADER = struct.Struct("!8sIQQ32sQ")
_LENGTH = struct.Struct("!I")
_CHECKSUM_BYTES = 32
_MEMORY = frozenset({"tmpfs", "ramfs"})


class UnusableSnapshotError(Exception):
    """A stored snapshot cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A verified snapshot and where it stands in the operator's order."""

    snapshot: Snapshot
    position: Position


class SnapshotStore:
    """A directory with at most one snapshot in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.file = directory / FILE_NAME
        self.keeps_keys = file_system_of(directory) in _MEMORY

    def __repr__(self) -> str:
        """Show where it is and whether keys may go there."""
        return f"<SnapshotStore {self.file} keeps_keys={self.keeps_keys}>"

    def load(self) -> Stored | None:
        """Return the stored snapshot, if there is one. Raises UnusableSnapshotError."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableSnapshotError(f"cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > SIZE_LIMIT_BYTES:
                raise UnusableSnapshotError(f"{size} bytes, more than {SIZE_LIMIT_BYTES}")
            return _decode(file.read(SIZE_LIMIT_BYTES + 1))

    def save(self, stored: Stored) -> bool:
        """
        Replace the stored snapshot; return False if it holds keys and may not be kept.

        Atomic: after a crash at any moment there is the old file or the new
        one. Raises OSError when the directory cannot be written.
        """
        if len(stored.snapshot.certificates) > 0 and not self.keeps_keys:
            self.file.unlink(missing_ok=True)
            return False
        # One name for all processes, so that what a killed one left half written is replaced.
        fresh = self._directory / f".{FILE_NAME}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                checksum = hashlib.sha256()
                for part in _encode(stored):
                    checksum.update(part)
                    file.write(part)
                file.write(checksum.digest())
                file.flush()
                os.fsync(descriptor)
            fresh.rename(self.file)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return True


def file_system_of(directory: Path) -> str:
    """Return the type of the file system that holds a directory, as the kernel names it."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    # proc_pid_mountinfo(5): id, parent, major:minor, root, mount point, options,
    # any number of optional fields, "-", type, source, options.
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2] == wanted:
            return right.split()[0]
    return "unknown"


def _encode(stored: Stored) -> Iterator[bytes]:
    position, blobs = stored.position, list(stored.snapshot.blobs())
    yield _HEADER.pack(
        MAGIC, FORMAT, position.epoch, position.sequence, stored.snapshot.root, len(blobs)
    )
    for blob in blobs:
        yield _LENGTH.pack(len(blob))
        yield blob


def _decode(data: bytes) -> Stored:
    if len(data) < _HEADER.size + _CHECKSUM_BYTES:
        raise UnusableSnapshotError(f"cut short at {len(data)} bytes")
    magic, version, epoch, sequence, root, count = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise UnusableSnapshotError("not a snapshot file")
    if version != FORMAT:
        raise UnusableSnapshotError(f"format {version}, this program reads {FORMAT}")
    body = memoryview(data)[:-_CHECKSUM_BYTES]
    if hashlib.sha256(body).digest() != data[-_CHECKSUM_BYTES:]:
        raise UnusableSnapshotError("checksum does not match: cut short or damaged")
    try:
        snapshot = assemble(Digest(root), _blobs(body, count), EMPTY)
    except SnapshotRefused as error:
        raise UnusableSnapshotError(str(error)) from error
    return Stored(snapshot, Position(epoch, sequence))


def _blobs(body: memoryview, count: int) -> Iterator[bytes]:
    at = _HEADER.size
    for _ in range(count):
        if at + _LENGTH.size > len(body):
            raise UnusableSnapshotError("fewer nodes than its header says")
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if at + length > len(body):
            raise UnusableSnapshotError("a node is longer than the file")
        yield bytes(body[at : at + length])
        at += length
    if at != len(body):
        raise UnusableSnapshotError("more bytes than its header says")
