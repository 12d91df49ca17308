"""What paths of ingress-nginx mean, with ``rewrite-target`` and ``use-regex``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway_dataplane.filters import build_chain
from fairway_operator.foreign import ServedPath, serve_path
from fairway_operator.targets import normal_path
from fairway_snapshot.filters import RewritePath
from fairway_snapshot.model import PathKind

EXACT, PREFIX, REGEX = PathKind.EXACT, PathKind.PREFIX, PathKind.REGEX


@pytest.mark.parametrize(
    ("path", "target", "prefix", "replacement"),
    [
        ("/shop(/|$)(.*)", "/$2", "/shop", "/"),
        ("/shop(/|$)(.*)$", "/$2", "/shop", "/"),
        ("/shop(/|$)(.*)", "/api/$2", "/shop", "/api"),
        ("/shop/(.*)", "/$1", "/shop", "/"),
        ("/shop/?(.*)", "/$1", "/shop", "/"),
        ("/shop(.*)", "/api$1", "/shop", "/api"),
        ("/shop(.*)", "$1", "/shop", "/"),
        ("/shop/()(.*)", "/$2", "/shop", "/"),
        (r"/v1\.0/(.*)", "/v2/$1", "/v1.0", "/v2"),
        ("/a/b(/|$)(.*)", "/$2", "/a/b", "/"),
        ("/(.*)", "/api/$1", "/", "/api"),
    ],
)
def test_these_segments_and_the_rest_are_a_prefix(
    path: str, target: str, prefix: str, replacement: str
) -> None:
    served = serve_path(PREFIX, path, target, has_patterns=True)

    assert served == ServedPath(PREFIX, prefix, replacement, swaps_prefix=True)


@pytest.mark.parametrize(
    ("path", "target"), [("/(.*)", "/$1"), ("/shop(/|$)(.*)", "/shop/$2"), ("/shop(.*)", "/shop$1")]
)
def test_a_rewrite_that_changes_nothing_is_a_prefix_alone(path: str, target: str) -> None:
    assert serve_path(PREFIX, path, target, has_patterns=False).target is None


@pytest.mark.parametrize(
    ("path", "target", "served"),
    [
        pytest.param("/shop", "/v2", ServedPath(EXACT, "/shop", "/v2"), id="the whole path"),
        pytest.param("/shop", "/$2", ServedPath(EXACT, "/shop", "/"), id="no groups are empty"),
        pytest.param("/", "/", ServedPath(EXACT, "/"), id="its own target"),
        pytest.param(
            "/[a-z]+", "/x", ServedPath(REGEX, "(?i:/[a-z]+).*", "/x"), id="an expression"
        ),
    ],
)
def test_a_target_without_groups_is_the_whole_path(
    path: str, target: str, served: ServedPath
) -> None:
    assert serve_path(EXACT, path, target, has_patterns=False) == served


@pytest.mark.parametrize(
    ("path", "target"),
    [
        pytest.param("/(a|b)/(.*)", "/$1", id="another group"),
        pytest.param("/shop(/|$)(.*)", "/$1", id="the separator"),
        pytest.param("/shop(/|$)(.*)", "/x?q=$2", id="a query"),
        pytest.param("/shop(/|$)(.*)", "/$2/$2", id="twice"),
        pytest.param("/shop(/|$)(.*)", "/api$2", id="a segment grows"),
        pytest.param("/shop", "v2", id="not absolute"),
        pytest.param("/shop", "/%zz", id="no path of a request"),
        pytest.param("/shop", "/a b", id="a blank"),
    ],
)
def test_what_cannot_be_rewritten_is_a_problem(path: str, target: str) -> None:
    served = serve_path(PREFIX, path, target, has_patterns=True)

    assert served.problem
    assert served.target is None


def test_only_what_looks_like_a_pattern_is_one() -> None:
    assert serve_path(PREFIX, "/v1.0", None, has_patterns=True) == ServedPath(PREFIX, "/v1.0")
    assert serve_path(PREFIX, "/a[0-9]", None, has_patterns=False) == ServedPath(PREFIX, "/a[0-9]")
    assert serve_path(EXACT, "/a$", None, has_patterns=True) == ServedPath(REGEX, "(?i:/a$).*")


rough = st.text("/$12(.*)|^\\%zA?# é", max_size=14).map("/".__add__)


@given(rough, rough | st.none(), st.booleans())
def test_a_path_is_served_or_has_a_problem(path: str, target: str | None, patterns: bool) -> None:  # noqa: FBT001 - drawn
    served = serve_path(PREFIX, path, target, has_patterns=patterns)

    if served.target is None:
        return
    prefix = None
    if served.swaps_prefix:
        try:
            prefix = normal_path(served.value)
        except ValueError:
            # A path that no request has is told of on its own.
            return
    build_chain((RewritePath(replacement=served.target, prefix=prefix),))
