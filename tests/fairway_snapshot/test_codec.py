"""Leaves to bytes and back."""

from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairway_snapshot.codec import SnapshotRefused, decode_leaf, encode_leaf, section_of
from fairway_snapshot.filters import FILTER_NAMES, HttpsRedirect, Redirect, filter_name
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Certificate,
    Endpoint,
    Leaf,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    Section,
    ServerName,
    Timeouts,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.secret import SecretBytes

st.register_type_strategy(SecretBytes, st.binary(max_size=40).map(SecretBytes))
st.register_type_strategy(int, st.integers(-(2**63), 2**64 - 1))
st.register_type_strategy(float, st.floats(min_value=0, max_value=1e9))

LEAVES: st.SearchStrategy[Leaf] = st.one_of(
    st.from_type(VirtualHost),
    st.from_type(Backend),
    st.from_type(Certificate),
    st.from_type(ServerName),
)
ROOT = RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(LEAVES)
def test_a_leaf_survives_its_bytes(leaf: Leaf) -> None:
    assert decode_leaf(section_of(leaf), encode_leaf(leaf)) == leaf


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(LEAVES)
def test_an_equal_leaf_has_equal_bytes(leaf: Leaf) -> None:
    twin = cast("Leaf", rebuilt(leaf))

    assert twin == leaf
    assert encode_leaf(twin) == encode_leaf(leaf)


def rebuilt(value: object) -> object:
    """Return an equal value, none of whose structs, numbers or strings is the same object."""
    if isinstance(value, msgspec.Struct):
        fields = {name: rebuilt(getattr(value, name)) for name in value.__struct_fields__}
        kind: Any = type(value)
        return kind(**fields)
    if isinstance(value, tuple):
        return tuple(rebuilt(item) for item in value)
    if type(value) is int:
        return int(str(value))
    if type(value) is str:
        return "".join([*value])
    return value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param(
            Route(name="a/b/0", match=ROOT, timeouts=Timeouts()),
            Route(name="a/b/0", match=ROOT),
            id="a default that is written out",
        ),
        pytest.param(
            Route(name="a/b/0", match=ROOT, timeouts=Timeouts(request=30)),
            Route(name="a/b/0", match=ROOT, timeouts=Timeouts(request=30.0)),
            id="an integer where a float is meant",
        ),
        pytest.param(
            Route(name="a/b/0", match=ROOT, filters=(Redirect(status=int("302")),)),
            Route(name="a/b/0", match=ROOT, filters=(Redirect(),)),
            id="a number that is equal and not the same",
        ),
    ],
)
def test_equal_meaning_has_equal_bytes(written: Route, meant: Route) -> None:
    first, second = VirtualHost(routes=(written,)), VirtualHost(routes=(meant,))

    assert encode_leaf(first) == encode_leaf(second)


def route_with(**fields: object) -> bytes:
    plain = {"name": "a/b/0", "match": {"path": {"kind": "Exact", "value": "/"}}}
    return msgspec.msgpack.encode({"routes": [{**plain, **fields}]})


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        pytest.param(route_with(mirror="x"), "unknown field `mirror`", id="unknown field"),
        pytest.param(
            route_with(filters=[{"type": "waf"}]), "Invalid value 'waf'", id="unknown filter"
        ),
        pytest.param(
            route_with(filters=[{"type": "strip-prefix", "prefix": "/a", "deep": 1}]),
            "unknown field `deep`",
            id="unknown field of a filter",
        ),
        pytest.param(
            msgspec.msgpack.encode({"endpoints": []}), "unknown field `endpoints`", id="a backend"
        ),
        pytest.param(route_with(filters=[]), "canonical", id="a default written out"),
        pytest.param(route_with()[:-1], "cannot be read", id="cut short"),
        pytest.param(b"\x91" * 5000, "cannot be read", id="nested without end"),
        pytest.param(route_with() + b"\xc0", "cannot be read", id="bytes after the end"),
    ],
)
def test_what_is_not_understood_is_refused(blob: bytes, reason: str) -> None:
    with pytest.raises(SnapshotRefused, match=reason):
        decode_leaf(Section.HOSTS, blob)


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        pytest.param("http", "Expected `int`", id="another type"),
        pytest.param(2**64, "ints", id="a number that has no bytes"),
    ],
)
def test_a_leaf_that_no_reader_could_take_is_not_written(port: Any, reason: str) -> None:
    broken = Backend(endpoints=(Endpoint(host="10.0.0.1", port=port),))

    with pytest.raises(ValueError, match=reason):
        encode_leaf(broken)


def test_defaults_take_no_room() -> None:
    backends = (WeightedBackend(backend=BackendId("a/b:80")),)
    plain = VirtualHost(routes=(Route(name="a/b/0", match=ROOT, backends=backends),))

    assert b"timeouts" not in encode_leaf(plain)
    assert len(encode_leaf(plain)) < 100


def test_a_key_is_not_shown() -> None:
    certificate = Certificate(chain=b"chain", key=SecretBytes(b"hidden"))

    assert "hidden" not in repr(certificate)
    assert b"hidden" in encode_leaf(certificate)


def test_every_filter_has_a_name_of_its_own() -> None:
    assert len(set(FILTER_NAMES)) == len(FILTER_NAMES)
    assert filter_name(HttpsRedirect()) in FILTER_NAMES
