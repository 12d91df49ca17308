"""The World is a value, and knows what has changed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_operator.journal import BLANK
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import Resource, Undecodable, decode
from fairway_operator.world import EMPTY, World

SERVICE = ObjectRef(Kind.SERVICE, "shop", "web")


def service(name: str) -> Resource | Undecodable:
    return decode(Kind.SERVICE, {"metadata": {"name": name, "namespace": "shop"}})


def slice_of(name: str, service_name: str | None) -> Resource | Undecodable:
    labels = {} if service_name is None else {"kubernetes.io/service-name": service_name}
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    return decode(Kind.ENDPOINT_SLICE, {"metadata": metadata, "addressType": "IPv4"})


def broken_route(name: str) -> Undecodable:
    found = decode(Kind.ROUTE, {"metadata": {"name": name, "namespace": "shop"}, "spec": 7})
    assert isinstance(found, Undecodable)
    return found


def route(name: str) -> Resource | Undecodable:
    spec = {"rules": [{"backendRefs": [{"name": "a", "port": 80}]}]}
    return decode(Kind.ROUTE, {"metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def test_a_change_leaves_the_world_before_as_it_was() -> None:
    before = EMPTY.put(service("web"))

    after = before.remove(SERVICE)

    assert before.service(SERVICE) is not None
    assert after.service(SERVICE) is None
    assert list(after.refs()) == []


def test_slices_are_found_by_their_service_while_they_belong_to_it() -> None:
    world = EMPTY.put(slice_of("b", "web")).put(slice_of("a", "web")).put(slice_of("c", None))
    assert [each.ref.name for each in world.slices(SERVICE)] == ["a", "b"]

    world = world.put(slice_of("a", "other")).remove(ObjectRef(Kind.ENDPOINT_SLICE, "shop", "b"))
    assert world.slices(SERVICE) == ()


def test_an_undecodable_version_keeps_the_decodable_one() -> None:
    ref = ObjectRef(Kind.ROUTE, "shop", "r")
    world = EMPTY.put(route("r")).put(broken_route("r"))
    assert world.route(ref) is not None
    assert world.problems(ref)

    assert world.put(route("r")).problems(ref) == ()
    gone = world.remove(ref)
    assert gone.route(ref) is None
    assert gone.problems(ref) == ()


def test_resync_sees_undecodable_objects_too() -> None:
    world = EMPTY.put(broken_route("r"))

    assert list(world.refs()) == [ObjectRef(Kind.ROUTE, "shop", "r")]
    assert list(world.remove(ObjectRef(Kind.ROUTE, "shop", "r")).refs()) == []


def test_removing_what_is_not_there_is_no_change() -> None:
    assert EMPTY.remove(SERVICE) is EMPTY


def test_a_journal_that_was_cut_says_that_it_cannot_tell() -> None:
    early = BLANK.noting(SERVICE)
    late = early
    for _ in range(10_000):
        late = late.noting(SERVICE)

    assert late.since(early) is None
    assert late.noting(SERVICE).since(late) == frozenset({SERVICE})
    assert late.since(late) == frozenset()


edits = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=8)


def _apply(world: World, steps: list[tuple[str, bool]]) -> World:
    for name, deleted in steps:
        ref = ObjectRef(Kind.SERVICE, "shop", name)
        world = world.remove(ref) if deleted else world.put(service(name))
    return world


@given(edits, edits, edits)
@settings(max_examples=200, deadline=None)
def test_changes_are_never_missed_on_a_line_or_across_branches(
    common: list[tuple[str, bool]], left: list[tuple[str, bool]], right: list[tuple[str, bool]]
) -> None:
    trunk = _apply(EMPTY, common)
    one, two = _apply(trunk, left), _apply(trunk, right)

    for later, earlier in ((one, trunk), (one, two), (two, one), (trunk, one), (one, EMPTY)):
        differing = {
            ref
            for ref in {*later.refs(), *earlier.refs()}
            if later.get(ref) is not earlier.get(ref)
        }
        assert later.changes_since(earlier) >= differing
        assert earlier.changes_since(earlier) == frozenset()
