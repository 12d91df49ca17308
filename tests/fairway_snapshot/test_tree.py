"""The Merkle tree: one root for equal content, sharing, and readers that trust nobody."""

from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway_snapshot import nodes
from fairway_snapshot.codec import encode_leaf
from fairway_snapshot.diff import changes, missing_blobs
from fairway_snapshot.digest import Digest, digest_of
from fairway_snapshot.model import (
    Backend,
    BackendId,
    CertificateId,
    Endpoint,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    Section,
    ServerName,
    VirtualHost,
)
from fairway_snapshot.nodes import Branch, BranchForm, Bucket, BucketForm, RootForm, encode_form
from fairway_snapshot.tree import EMPTY, Edit, Snapshot, SnapshotRefused, assemble, snapshot_of


def backend(port: int) -> Backend:
    return Backend(endpoints=(Endpoint(host="10.0.0.1", port=port),))


def backends(numbers: range, port: int = 80) -> Snapshot:
    return snapshot_of(
        backends={BackendId(f"shop/b{number}:80"): backend(port) for number in numbers}
    )


Content: TypeAlias = dict[str, int]
CONTENT = st.dictionaries(st.integers(0, 200).map(lambda n: f"shop/b{n}:80"), st.integers(1, 3))
CONTENT_OF_MANY = st.one_of(
    CONTENT,
    st.integers(10, 80).map(lambda n: {f"shop/b{at}:80": 1 for at in range(n)}),
)


def of(content: Content) -> Snapshot:
    return snapshot_of(backends={BackendId(key): backend(port) for key, port in content.items()})


@given(CONTENT_OF_MANY, CONTENT_OF_MANY, st.randoms(use_true_random=False))
def test_the_root_does_not_depend_on_the_way_there(
    start: Content, end: Content, random: "st.DataObject"
) -> None:
    keys = sorted(start.keys() | end.keys())
    random.shuffle(keys)  # type: ignore[attr-defined]
    snapshot = of(start)
    for key in keys:
        leaf = backend(end[key]) if key in end else None
        snapshot = snapshot.evolve([Edit(Section.BACKENDS, key, leaf)])

    assert snapshot.root == of(end).root
    assert dict(snapshot.backends.items()) == {key: backend(port) for key, port in end.items()}


@given(CONTENT_OF_MANY, CONTENT_OF_MANY)
def test_applying_a_diff_gives_the_new_snapshot(start: Content, end: Content) -> None:
    old, new = of(start), of(end)

    made = assemble(new.root, missing_blobs(old, new), old)

    assert made == new
    assert dict(made.backends) == dict(new.backends)
    assert list(made.blobs()) == list(new.blobs())


@given(CONTENT_OF_MANY, CONTENT_OF_MANY)
def test_changes_are_the_keyed_difference(start: Content, end: Content) -> None:
    found = {change.key: (change.before, change.after) for change in changes(of(start), of(end))}

    assert found == {
        key: (
            backend(start[key]) if key in start else None,
            backend(end[key]) if key in end else None,
        )
        for key in start.keys() | end.keys()
        if start.get(key) != end.get(key)
    }


@given(CONTENT_OF_MANY)
def test_a_snapshot_is_its_blobs(content: Content) -> None:
    snapshot = of(content)
    blobs = list(snapshot.blobs())

    assert digest_of(blobs[-1]) == snapshot.root
    assert assemble(snapshot.root, blobs, EMPTY) == snapshot


def test_one_leaf_of_5000_costs_one_way_down() -> None:
    old = backends(range(5000))
    leaf = backend(8080)
    new = old.evolve([Edit(Section.BACKENDS, "shop/b17:80", leaf)])

    sent = missing_blobs(old, new)

    assert sum(map(len, sent)) < 4_000 + len(encode_leaf(leaf))
    assert len(sent) <= 7
    assert assemble(new.root, sent, old) == new


def test_an_edit_shares_every_other_subtree() -> None:
    old = backends(range(1000))
    new = old.evolve([Edit(Section.BACKENDS, "shop/b17:80", backend(8080))])
    before, after = (s.node.subtrees[Section.BACKENDS] for s in (old, new))
    assert isinstance(before, Branch)
    assert isinstance(after, Branch)

    shared = [a is b for a, b in zip(before.children, after.children, strict=True)]

    assert shared.count(False) == 1


def test_edits_that_change_nothing_return_the_same_snapshot() -> None:
    snapshot = backends(range(100))

    same = snapshot.evolve(
        [
            Edit(Section.BACKENDS, "shop/b1:80", backend(80)),
            Edit(Section.BACKENDS, "shop/none:80", None),
        ]
    )

    assert same is snapshot


def test_the_last_edit_of_a_key_counts() -> None:
    edits = [Edit(Section.BACKENDS, "a/b:80", backend(port)) for port in (1, 2)]

    assert EMPTY.evolve(edits).backends[BackendId("a/b:80")] == backend(2)
    assert EMPTY.evolve([*edits, Edit(Section.BACKENDS, "a/b:80", None)]) is EMPTY


def test_a_leaf_of_another_section_is_not_taken() -> None:
    with pytest.raises(ValueError, match="Backend is not a leaf of hosts"):
        EMPTY.evolve([Edit(Section.HOSTS, "shop.example", backend(80))])


def test_sections_are_mappings() -> None:
    name = ServerName(certificate=CertificateId("shop/tls"))
    snapshot = snapshot_of(server_names={HostPattern("shop.example"): name})

    assert len(snapshot.server_names) == 1
    assert list(snapshot.server_names) == ["shop.example"]
    assert list(snapshot.server_names.values()) == [name]
    assert snapshot.server_names.get(HostPattern("other.example")) is None
    assert "shop.example" in repr(list(snapshot.server_names))
    assert "shop.example" not in repr(snapshot)


# Readers trust nobody.


def refusal(root: Digest, blobs: list[bytes], base: Snapshot = EMPTY) -> str:
    held = list(base.blobs())
    with pytest.raises(SnapshotRefused) as refused:
        assemble(root, blobs, base)
    assert list(base.blobs()) == held
    return refused.value.reason


@given(st.data())
def test_a_blob_that_is_missing_or_has_one_bit_flipped_is_refused(data: st.DataObject) -> None:
    base = backends(range(40))
    new = base.evolve([Edit(Section.BACKENDS, f"shop/b{n}:80", backend(90)) for n in (1, 2, 50)])
    blobs = missing_blobs(base, new)
    at = data.draw(st.integers(0, len(blobs) - 1))
    flipped = bytearray(blobs[at])
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert "is missing" in refusal(new.root, [*blobs[:at], *blobs[at + 1 :]], base)
    assert "is missing" in refusal(new.root, [*blobs[:at], bytes(flipped), *blobs[at + 1 :]], base)


def test_the_empty_snapshot_is_known_to_every_holder() -> None:
    assert assemble(EMPTY.root, [], backends(range(20))) == EMPTY


def test_a_node_that_has_moved_is_found_in_the_base() -> None:
    """A bucket rises when its neighbours go; a publisher need not send it again."""
    base = backends(range(200))
    subtree = base.node.subtrees[Section.BACKENDS]
    assert isinstance(subtree, Branch)
    bucket = next(child for child in subtree.children if isinstance(child, Bucket))
    kept = {BackendId(key): base.backends[BackendId(key)] for key in bucket.keys}
    new = snapshot_of(backends=kept)

    assert new.node.subtrees[Section.BACKENDS] is not bucket
    assert assemble(new.root, [new.node.blob()], base) == new


def test_a_leaf_that_has_moved_is_found_in_the_base() -> None:
    base = snapshot_of(backends={BackendId("a/old:80"): backend(7)})
    new = snapshot_of(backends={BackendId("a/new:80"): backend(7)})
    without_leaf = [blob for blob in missing_blobs(base, new) if blob != encode_leaf(backend(7))]

    assert assemble(new.root, without_leaf, base) == new


def forged(
    form: BucketForm | BranchForm, *more: bytes, section: int = 1
) -> tuple[Digest, list[bytes]]:
    blob = encode_form(form)
    sections = [b""] * 4
    sections[section] = digest_of(blob)
    root = encode_form(RootForm(nodes.FORMAT, tuple(sections)))
    return digest_of(root), [*more, blob, root]


LEAF = encode_leaf(backend(80))
NAME = digest_of(LEAF)


def bucket_form(*keys: str) -> BucketForm:
    return BucketForm(tuple((key, NAME) for key in keys))


def test_a_forged_bucket_would_be_taken_if_it_were_right() -> None:
    assert assemble(*forged(bucket_form("a/b:80"), LEAF), EMPTY).backends[
        BackendId("a/b:80")
    ] == backend(80)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        pytest.param(bucket_form("b", "a"), "not in order", id="unsorted keys"),
        pytest.param(bucket_form("a", "a"), "not in order", id="a key twice"),
        pytest.param(bucket_form(), "a bucket of 0", id="an empty bucket"),
        pytest.param(
            bucket_form(*(f"{n:02}" for n in range(17))), "a bucket of 17", id="a bucket of 17"
        ),
        pytest.param(BucketForm((("a", b"short"),)), "digest of 5 bytes", id="a short digest"),
        pytest.param(BranchForm((b"",) * 15), "canonical form", id="a branch of 15"),
        pytest.param(BranchForm((b"",) * 16), "few enough", id="an empty branch"),
        pytest.param(BranchForm((NAME,) * 16), "cannot be read", id="a leaf as a subtree"),
    ],
)
def test_a_node_of_the_wrong_shape_is_refused(form: BucketForm | BranchForm, reason: str) -> None:
    assert reason in refusal(*forged(form, LEAF))


def test_a_branch_with_few_leaves_is_refused() -> None:
    at = int(nodes.place("a/b:80")[0], 16)
    bucket = encode_form(bucket_form("a/b:80"))
    children = tuple(digest_of(bucket) if child == at else b"" for child in range(16))

    assert "few enough" in refusal(*forged(BranchForm(children), bucket, LEAF))


def test_a_key_in_the_wrong_bucket_is_refused() -> None:
    at = int(nodes.place("a/b:80")[0], 16)
    bucket = encode_form(bucket_form("a/b:80"))
    children = tuple(digest_of(bucket) if child == (at + 1) % 16 else b"" for child in range(16))

    assert "wrong bucket" in refusal(*forged(BranchForm(children), bucket, LEAF))


def test_one_bucket_named_everywhere_does_not_multiply() -> None:
    """Sixty levels of branches that each name the level below 16 times are 16 ** 60 nodes."""
    blob = encode_form(bucket_form("a/b:80"))
    blobs = [LEAF]
    for _ in range(60):
        blobs.append(blob)
        blob = encode_form(BranchForm((digest_of(blob),) * 16))
    form = msgspec.msgpack.decode(blob, type=BranchForm)

    assert "wrong bucket" in refusal(*forged(form, *blobs))


def test_branches_deeper_than_the_hash_are_refused() -> None:
    way = nodes.place("a/b:80")
    blob = encode_form(bucket_form("a/b:80"))
    blobs = [LEAF]
    for depth in range(64, -1, -1):
        blobs.append(blob)
        at = int(way[depth % 64], 16)
        children = tuple(digest_of(blob) if child == at else b"" for child in range(16))
        blob = encode_form(BranchForm(children))
    form = msgspec.msgpack.decode(blob, type=BranchForm)

    assert "canonical form" in refusal(*forged(form, *blobs))


def test_a_leaf_of_another_section_is_refused() -> None:
    assert "hosts cannot be read" in refusal(*forged(bucket_form("a/b:80"), LEAF, section=0))


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        pytest.param(RootForm(2, (b"",) * 4), "format 2 is not known", id="another format"),
        pytest.param(RootForm(1, (b"",) * 3), "3 sections", id="a section too few"),
    ],
)
def test_an_unknown_root_is_refused(root: RootForm, reason: str) -> None:
    blob = encode_form(root)

    assert reason in refusal(digest_of(blob), [blob])


def test_bytes_after_the_end_of_a_node_are_refused() -> None:
    blob = EMPTY.node.blob() + b"\xc0"

    assert "cannot be read" in refusal(digest_of(blob), [blob])


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        pytest.param({"routes": [], "shadow": 1}, "unknown field `shadow`", id="unknown field"),
        pytest.param(
            {
                "routes": [
                    {
                        "name": "a/b/0",
                        "match": {"path": {"kind": "Exact", "value": "/"}},
                        "filters": [{"type": "waf"}],
                    }
                ]
            },
            "Invalid value 'waf'",
            id="unknown filter",
        ),
    ],
)
def test_what_the_reader_does_not_know_is_refused_whole(
    leaf: dict[str, object], reason: str
) -> None:
    base = snapshot_of(hosts={HostPattern("old.example"): VirtualHost(routes=())})
    blob = msgspec.msgpack.encode(leaf)
    form = BucketForm((("new.example", digest_of(blob)),))

    root, blobs = forged(form, blob, section=0)

    assert reason in refusal(root, blobs, base)


def test_leaves_with_equal_content_are_sent_once() -> None:
    match = RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/"))
    shared = VirtualHost(routes=(Route(name="a/b/0", match=match),))
    snapshot = snapshot_of(hosts={HostPattern(f"h{n}.example"): shared for n in range(100)})

    assert list(snapshot.blobs()).count(encode_leaf(shared)) == 1
