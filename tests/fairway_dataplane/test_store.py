import os
import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway_dataplane.store import (
    SIZE_LIMIT_BYTES,
    SnapshotStore,
    Stored,
    UnusableSnapshotError,
    file_system_of,
)
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Certificate,
    CertificateId,
    Endpoint,
)
from fairway_snapshot.protocol import Position
from fairway_snapshot.secret import SecretBytes
from fairway_snapshot.tree import Snapshot, snapshot_of

POSITION = Position(3, 141)


def backends(count: int) -> Snapshot:
    endpoints = (Endpoint(host="10.0.0.1", port=80),)
    return snapshot_of(
        backends={BackendId(f"a/b{at}:80"): Backend(endpoints=endpoints) for at in range(count)}
    )


def with_a_key() -> Snapshot:
    leaf = Certificate(chain=b"chain", key=SecretBytes(b"a private key"))
    return snapshot_of(certificates={CertificateId("a/tls"): leaf})


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a directory in memory."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_what_was_saved_is_loaded_with_its_position(tmp_path: Path) -> None:
    stored = Stored(backends(100), POSITION)
    store = SnapshotStore(tmp_path)

    assert store.load() is None
    assert store.save(Stored(backends(1), Position(1, 1)))
    assert store.save(stored)

    assert store.load() == stored
    assert store.file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [store.file]


def test_a_key_is_kept_in_memory(memory: Path) -> None:
    store = SnapshotStore(memory)

    assert file_system_of(memory) == "tmpfs"
    assert store.save(Stored(with_a_key(), POSITION))

    loaded = store.load()
    assert loaded is not None
    assert loaded.snapshot == with_a_key()


def test_a_key_never_reaches_a_disk_and_the_older_snapshot_goes_too(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    assert file_system_of(tmp_path) not in ("tmpfs", "ramfs", "unknown")
    store.save(Stored(backends(1), POSITION))

    assert not store.save(Stored(with_a_key(), POSITION))

    assert list(tmp_path.iterdir()) == []


@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_one_flipped_bit_is_refused_wherever_it_is(at: int, bit: int) -> None:
    with TemporaryDirectory() as directory:
        store = SnapshotStore(Path(directory))
        store.save(Stored(backends(3), POSITION))
        content = bytearray(store.file.read_bytes())
        content[at % len(content)] ^= 1 << bit
        store.file.write_bytes(content)

        with pytest.raises(UnusableSnapshotError):
            store.load()


def sealed(content: bytes) -> bytes:
    """Return a body with the checksum that belongs to it."""
    return content + sha256(content).digest()


def replaced(content: bytes, at: int, part: bytes) -> bytes:
    return content[:at] + part + content[at + len(part) :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda body: body[:40], "cut short at 40 bytes", id="too short"),
        pytest.param(lambda body: sealed(b"x" * 99), "not a snapshot file", id="another file"),
        pytest.param(
            lambda body: sealed(replaced(body, 8, struct.pack("!I", 2))),
            "format 2, this program reads 1",
            id="a later format",
        ),
        pytest.param(
            lambda body: sealed(body[:-1]), "a node is longer than the file", id="a node is cut"
        ),
        pytest.param(
            lambda body: sealed(body + b"more"), "more bytes than its header says", id="a tail"
        ),
        pytest.param(
            lambda body: sealed(replaced(body, 28, bytes(32))),
            "node 000000000000 is missing",
            id="another root",
        ),
    ],
)
def test_a_file_with_a_right_checksum_is_still_verified(
    tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    store = SnapshotStore(tmp_path)
    store.save(Stored(backends(1), POSITION))
    store.file.write_bytes(change(store.file.read_bytes()[:-32]))

    with pytest.raises(UnusableSnapshotError, match=reason):
        store.load()


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    with store.file.open("wb") as file:
        file.truncate(SIZE_LIMIT_BYTES + 1)

    with pytest.raises(UnusableSnapshotError, match="more than"):
        store.load()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.file.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnusableSnapshotError, match="cannot be read"):
        store.load()


def test_a_save_that_fails_leaves_the_old_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SnapshotStore(tmp_path)
    old = Stored(backends(1), POSITION)
    store.save(old)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(Stored(backends(2), Position(4, 1)))
    monkeypatch.undo()

    assert store.load() == old
    assert list(tmp_path.iterdir()) == [store.file]
