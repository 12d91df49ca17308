"""Objects that are made to be dear: each costs its share, and no more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fairway_operator.refs import Kind
from tests.fairway_operator.compiler.conftest import Compile, Objects

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Body

NGINX = "nginx.ingress.kubernetes.io"
MOST_BYTES = 256 * 1024
"""Of all annotations of an object."""


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param(
            {f"{NGINX}/configuration-snippet": '"' + '\\"' * (MOST_BYTES // 2)},
            id="open quotations",
        ),
        pytest.param(
            {f"{NGINX}/configuration-snippet": "'\"" * (MOST_BYTES // 2)}, id="mixed quotations"
        ),
        pytest.param(
            {f"{NGINX}/server-alias": "a " * (MOST_BYTES // 2)}, id="aliases of one letter"
        ),
        pytest.param({f"{NGINX}/whitelist-source-range": "," * MOST_BYTES}, id="ranges of nothing"),
        pytest.param(
            {f"{NGINX}/proxy-body-sice{at}": "" for at in range(MOST_BYTES // 48)},
            id="nearly known names",
        ),
        pytest.param({f"{NGINX}/rewrite-target": "/$" * (MOST_BYTES // 2)}, id="a long target"),
        pytest.param({f"{NGINX}/upstream-vhost": "a." * (MOST_BYTES // 2)}, id="a long host"),
        pytest.param(
            {f"{NGINX}/permanent-redirect": "http://" + "@" * MOST_BYTES}, id="a long URL"
        ),
        pytest.param(
            {"fairway.dev/ignored-annotations": "a/b," * (MOST_BYTES // 4)}, id="much to ignore"
        ),
        pytest.param(
            {"fairway.dev/request-headers": "a:\n" * (MOST_BYTES // 3)}, id="many headers"
        ),
    ],
)
def test_annotations(annotations: dict[str, str]) -> None:
    objects = Objects()
    body = objects.ingress("i", "x.com ~/a(/|$)(.*) a:80", annotations=annotations)
    compile_ = Compile()
    started = time.process_time()

    seen = compile_(body, objects.web("a"))

    assert time.process_time() - started < 10
    assert seen.findings("i")


def test_aliases_do_not_multiply_a_large_object() -> None:
    objects = Objects()
    aliases = " ".join(f"a{at}.example" for at in range(16))
    body = objects.ingress(
        "i",
        *(f"x.com ^/{at} a:80" for at in range(2000)),
        annotations={f"{NGINX}/server-alias": aliases},
    )

    seen = Compile()(body, objects.web("a"))

    assert seen.reasons("i") == ["TooLarge"]
    assert seen.ask("x.com/1") == "shop/a:80"
    assert seen.ask("a1.example/1") == "404"


LETTERS = r"/(\pL|\pN){1000}"


def test_expressions_that_are_too_large_are_looked_at_some_times() -> None:
    objects = Objects()
    matches: list[Body] = [
        {"path": {"type": "RegularExpression", "value": f"{LETTERS}{at}"}} for at in range(64)
    ]
    rules = [
        {"matches": matches, "backendRefs": [{"name": "a", "port": 80}], "name": f"r{at}"}
        for at in range(60)
    ]
    body = objects.route("r", *rules)
    good = objects.ingress("i", "x.com ^/ a:80")
    started = time.process_time()

    seen = Compile()(body, good, objects.web("a"))

    assert time.process_time() - started < 15
    found = seen.findings("r", Kind.ROUTE)
    assert sum("repeats too much" in each.message for each in found) == 8
    assert seen.ask("x.com/") == "shop/a:80"


def test_expressions_that_are_large_together_are_cut_off() -> None:
    objects = Objects()
    paths = [f"x.com ~/(a{{300}}){{3}}/{at} a:80" for at in range(200)]
    body = objects.ingress("i", *paths, annotations={f"{NGINX}/use-regex": "true"})

    seen = Compile()(body, objects.web("a"))

    found = seen.findings("i")
    served = len(seen.virtual_host("x.com").routes)
    assert 0 < served < 200
    assert {each.message for each in found if each.field.endswith(".path")} == {
        "the regular expressions of this object are too large together"
    }


def test_as_many_expressions_as_people_write_are_fine() -> None:
    objects = Objects()
    paths = [f"x.com ~/shop/{at}/item/[0-9]+/(edit|show) a:80" for at in range(1000)]
    body = objects.ingress("i", *paths, annotations={f"{NGINX}/use-regex": "true"})

    assert Compile()(body, objects.web("a")).findings("i") == ()
