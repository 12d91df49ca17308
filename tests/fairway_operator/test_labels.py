"""Label selectors mean here what they mean to the API server."""

import pytest

from fairway_operator.labels import EVERYTHING, parse_selector

SHOP = {"team": "shop", "env": "live", "app.kubernetes.io/name": "cart", "empty": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("team=shop", True),
        ("team == shop", True),
        ("team=other", False),
        ("team!=other", True),
        ("team!=shop", False),
        ("missing!=shop", True),
        ("team", True),
        ("missing", False),
        ("!missing", True),
        ("! team", False),
        ("env in (live, next)", True),
        ("env in (next)", False),
        ("env notin (next,old)", True),
        ("env notin (live)", False),
        ("missing notin (live)", True),
        ("missing in (live)", False),
        ("empty=", True),
        ("empty in ()", True),
        ("team=", False),
        ("app.kubernetes.io/name=cart, team=shop,env in (live),!missing", True),
        ("app.kubernetes.io/name=cart,team=other", False),
        ("in in (a)", False),
    ],
)
def test_selection(text: str, *, selected: bool) -> None:
    assert parse_selector(text).selects(SHOP) is selected


@pytest.mark.parametrize(
    "text",
    [",", "team=shop,", "team=shop env=live", "team in live", "=shop", "team=(a)", "a/b/c", "te am",
     "-team", "team in (a", "x" * 5000, "team=shop,,env=live"],
)  # fmt: skip
def test_what_the_api_server_would_refuse_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="label selector"):
        parse_selector(text)


def test_no_selector_selects_everything() -> None:
    assert parse_selector("") == EVERYTHING
    assert EVERYTHING.selects({})
