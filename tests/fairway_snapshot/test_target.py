"""Host and path in the form that is matched and forwarded (http-policy rows 57 to 67)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway_snapshot.target import (
    Refusal,
    TargetRefused,
    has_encoded_slash,
    normalize_host,
    normalize_path,
    without_parameters,
)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        pytest.param(b"/", b"/", id="the root"),
        pytest.param(b"/a/b.html", b"/a/b.html", id="nothing to do"),
        pytest.param(b"/.well-known/x", b"/.well-known/x", id="a dot is not a dot segment"),
        pytest.param(b"/a/...", b"/a/...", id="three dots are not a dot segment"),
        pytest.param(b"/a/./b", b"/a/b", id="a single dot"),
        pytest.param(b"/a/../b", b"/b", id="two dots"),
        pytest.param(b"/a/b/..", b"/a/", id="two dots at the end leave a slash"),
        pytest.param(b"/a/.", b"/a/", id="a dot at the end leaves a slash"),
        pytest.param(b"/../../etc", b"/etc", id="nothing is above the root"),
        pytest.param(b"/..", b"/", id="the root is its own parent"),
        pytest.param(b"/a/%2e%2E/b", b"/b", id="63 dots in disguise"),
        pytest.param(b"/a/.%2e/b", b"/b", id="63 half in disguise"),
        pytest.param(b"/%66oo", b"/foo", id="P5 unreserved escapes are decoded"),
        pytest.param(b"/caf%c3%a9", b"/caf%C3%A9", id="other escapes get upper-case digits"),
        pytest.param(b"/a%2fb%5cc", b"/a%2Fb%5Cc", id="63 an encoded slash stays encoded"),
        pytest.param(b"/%252e%252e/a", b"/%252e%252e/a", id="65 decoded once only"),
        pytest.param(b"/a//b", b"/a//b", id="P6 empty segments stay"),
        pytest.param(b"/a//../b", b"/a/b", id="64 an empty segment is a segment"),
        pytest.param(b"//a", b"//a", id="P6 // is not /"),
        pytest.param(b"/a;v=1/b", b"/a;v=1/b", id="P5 parameters are forwarded"),
        pytest.param(b'/"<>^`{}|[]', b"/%22%3C%3E%5E%60%7B%7D%7C%5B%5D", id="66 escaped"),
    ],
)
def test_path(raw: bytes, path: bytes) -> None:
    assert normalize_path(raw) == path


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", Refusal.NOT_ABSOLUTE, id="60 empty"),
        pytest.param(b"*", Refusal.NOT_ABSOLUTE, id="60 asterisk"),
        pytest.param(b"a/b", Refusal.NOT_ABSOLUTE, id="60 relative"),
        pytest.param(b"/a#b", Refusal.CHARACTER, id="60 fragment"),
        pytest.param(b"/a?b", Refusal.CHARACTER, id="a query is not of the path"),
        pytest.param(b"/a%00b", Refusal.NUL, id="63 NUL"),
        pytest.param(b"/a\\b", Refusal.CHARACTER, id="66 backslash"),
        pytest.param("/café".encode(), Refusal.CHARACTER, id="66 non-ASCII"),
        pytest.param(b"/a b", Refusal.CHARACTER, id="space"),
        pytest.param(b"/a\n", Refusal.CHARACTER, id="control at the end"),
        pytest.param(b"/\x7f", Refusal.CHARACTER, id="DEL"),
        pytest.param(b"/a%zz", Refusal.BAD_ESCAPE, id="67 not hexadecimal"),
        pytest.param(b"/a%", Refusal.BAD_ESCAPE, id="67 cut short"),
        pytest.param(b"/a%2", Refusal.BAD_ESCAPE, id="67 half"),
        pytest.param(b"/a/..;/b", Refusal.DOT_PARAMETER, id="64 dots with parameters"),
        pytest.param(b"/a/%2e%2e;x=1/b", Refusal.DOT_PARAMETER, id="64 in disguise"),
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(raw: bytes, reason: Refusal) -> None:
    with pytest.raises(TargetRefused) as refused:
        normalize_path(raw)
    assert refused.value.reason is reason


@pytest.mark.parametrize("raw", [b"/a%2fb", b"/a%5Cb"])
def test_an_encoded_slash_can_be_refused(raw: bytes) -> None:
    with pytest.raises(TargetRefused) as refused:
        normalize_path(raw, allow_encoded_slash=False)
    assert refused.value.reason is Refusal.ENCODED_SLASH
    assert has_encoded_slash(normalize_path(raw))
    assert not has_encoded_slash(b"/a%252Fb%C3%A9")


@pytest.mark.parametrize(
    ("raw", "path"),
    [(b"/a//b///c", b"/a/b/c"), (b"//", b"/"), (b"/a//../b", b"/b"), (b"/a/..//b", b"/b")],
)
def test_slashes_merge_where_the_listener_says_so(raw: bytes, path: bytes) -> None:
    assert normalize_path(raw, merge_slashes=True) == path


PATHS = st.lists(
    st.sampled_from(
        [b"/", b"/", b".", b"..", b"%2e", b"%2E", b"%2f", b"%25", b"a", b"%41", b";", b"%7e", b"^"]
    ),
    max_size=12,
).map(lambda parts: b"/" + b"".join(parts))


@given(PATHS, st.booleans())
def test_the_form_is_final(raw: bytes, merge: bool) -> None:  # noqa: FBT001 - drawn, not called
    try:
        path = normalize_path(raw, merge_slashes=merge)
    except TargetRefused as refused:
        assert refused.reason is Refusal.DOT_PARAMETER  # noqa: PT017 - one of two outcomes
        return

    assert normalize_path(path, merge_slashes=merge) == path
    assert not {b".", b".."} & set(without_parameters(path).split(b"/"))
    assert not (merge and b"//" in path)


@given(st.binary(max_size=30))
def test_any_bytes_are_normal_or_refused(raw: bytes) -> None:
    try:
        path = normalize_path(b"/" + raw)
    except TargetRefused:
        return
    assert path.isascii()
    assert not set(path) & set(b' ?#\\"<>^`{}|\0')


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        pytest.param(b"shop.example", b"shop.example", id="as it is"),
        pytest.param(b"Shop.EXAMPLE", b"shop.example", id="H4 case"),
        pytest.param(b"shop.example:8080", b"shop.example", id="H4 port"),
        pytest.param(b"shop.example.", b"shop.example", id="H4 trailing dot"),
        pytest.param(b"shop.example.:80", b"shop.example", id="H4 both"),
        pytest.param(b"10.0.0.1:80", b"10.0.0.1", id="IPv4"),
        pytest.param(b"[::1]:80", b"[::1]", id="62 IPv6"),
        pytest.param(b"[0:0:0:0:0:0:0:A]", b"[::a]", id="62 IPv6 in its shortest form"),
        pytest.param(b"xn--bcher-kva.example", b"xn--bcher-kva.example", id="62 A-label"),
        pytest.param(b"my_host", b"my_host", id="underscore"),
    ],
)
def test_host(raw: bytes, host: bytes) -> None:
    assert normalize_host(raw) == host


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a b",
        b"a/b",
        b"@c",
        b"user@c",
        b"a:",
        b"a:http",
        b"a:70000",
        b"a:80:80",
        b"a,b",
        b"a\n",
        b"::1",
        b"[::1",
        b"[fe80::1%25eth0]",
        b"[1.2.3.4]",
        b"[::1]x",
        "bücher.example".encode(),
        b"a" * 64,
        b".".join([b"a" * 60] * 5),
        b"*.example",
        b"%61.example",
    ],
)
def test_a_host_that_is_not_one_is_refused(raw: bytes) -> None:
    with pytest.raises(TargetRefused) as refused:
        normalize_host(raw)
    assert refused.value.reason is Refusal.HOST
