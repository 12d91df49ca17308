"""Work follows the change: what is looked at again, counted instead of timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.compiler import compiler
from fairway_operator.compiler.backends import build_backend
from fairway_operator.compiler.hosts import merge
from fairway_operator.compiler.single import compile_single
from fairway_operator.refs import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fairway_operator.compiler.conftest import Compile, Objects, Steps

COUNT = 200


class Work:
    """How often each part of the compiler has run."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.counts: dict[str, int] = {}
        for name, real in (
            ("compile_single", compile_single),
            ("merge", merge),
            ("build_backend", build_backend),
        ):
            patch.setattr(compiler, name, self._counting(name, real))

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.counts[name] = self.counts.get(name, 0) + 1
            return real(*args)

        return counted


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def steps(compiled: Compile, objects: Objects, work: Work) -> Steps:
    made = compiled.steps()
    made.put(
        *(objects.ingress(f"i{at}", f"h{at}.com ^/ s{at}:80") for at in range(COUNT)),
        *(objects.web(f"s{at}") for at in range(COUNT)),
    )
    assert work.counts == dict.fromkeys(("compile_single", "merge", "build_backend"), COUNT)
    work.counts.clear()
    return made


def test_an_edit_compiles_one_object_and_merges_its_hosts(
    steps: Steps, objects: Objects, work: Work
) -> None:
    steps.put(objects.ingress("i7", "new.com ^/ s7:80"))

    assert work.counts == {"compile_single": 1, "merge": 1}


def test_an_edit_that_means_the_same_merges_nothing(
    steps: Steps, objects: Objects, work: Work
) -> None:
    before = steps.put().snapshot

    after = steps.put(objects.ingress("i7", "h7.com ^/ s7:http", generation=9)).snapshot

    assert work.counts == {"compile_single": 1}
    assert after is before


def test_endpoints_compile_no_object_and_merge_no_host(
    steps: Steps, objects: Objects, work: Work
) -> None:
    steps.put(objects.slice("s7", "10.0.0.9"))

    assert work.counts == {"build_backend": 1}


def test_a_service_compiles_those_that_refer_to_it(
    steps: Steps, objects: Objects, work: Work
) -> None:
    steps.put(objects.service("s7"))
    steps.remove(Kind.SERVICE, "s8")

    # The route of a Service that is gone keeps its backend's name, and answers 503.
    assert work.counts == {"compile_single": 2, "build_backend": 1}


def test_what_nobody_refers_to_costs_nothing(steps: Steps, objects: Objects, work: Work) -> None:
    steps.put(objects.web("unused"), objects.secret("unused", "x.com"), objects.grant("a", "b"))

    assert work.counts == {}
