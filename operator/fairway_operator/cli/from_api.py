"""
Objects of an API server to a compilation, as :mod:`from_files` makes it of files.

It is the operator's own decoder and compiler, once, over what is there now.
What a running operator knows besides (the last good version of an object that
has errors) is in ``fairway status`` alone.
"""

import asyncio
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from fairway_operator.cli.from_files import Compiled
from fairway_operator.cli.manifests import Manifests
from fairway_operator.cli.problems import Problem, problem_of
from fairway_operator.cli.reach import Reach, with_client
from fairway_operator.compiler import Compiler, CompilerSettings
from fairway_operator.findings import Reason, Severity
from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import FIELD_SELECTORS, OPTIONAL_KINDS, collection_path
from fairway_operator.refs import CLUSTER_SCOPED, Kind
from fairway_operator.resources import decode
from fairway_operator.world import EMPTY, World

_NEEDED = frozenset({Kind.INGRESS, Kind.SERVICE, Kind.ENDPOINT_SLICE})
"""Without these nothing true could be said."""


def compile_live(
    reach: Reach, settings: CompilerSettings, *, assumed_class: str
) -> Compiled | None:
    """
    Read and compile what an API server holds; None where it cannot be asked.

    ``assumed_class`` is taken to be ours where IngressClasses may not be read.
    """
    listed = with_client(reach, lambda client: _list_all(client, reach.namespaces or ("",)))
    if listed is None:
        return None
    bodies, denied = listed
    world = EMPTY
    for kind, found in bodies.items():
        for body in found:
            world = world.put(decode(kind, body))
    if Kind.INGRESS_CLASS in denied:
        world = _with_class(world, assumed_class, settings)
    compilation = Compiler(settings).compile(world)
    problems = [_denied(kind, message, assumed_class) for kind, message in denied.items()]
    problems.extend(
        problem_of(finding, None)
        for found in compilation.findings.values()
        for finding in found
        # What may not be read may be there all the same.
        if not (finding.reason is Reason.UNKNOWN_SECRET and Kind.SECRET in denied)
    )
    return Compiled(Manifests({}, ()), compilation, tuple(problems), frozenset())


async def _list_all(
    client: KubeClient, namespaces: tuple[str, ...]
) -> tuple[Mapping[Kind, list[Body]], Mapping[Kind, str]]:
    """Return the objects of each kind, and why some kinds may not be read."""
    kinds = tuple(Kind)
    answers = await asyncio.gather(*(_list(client, kind, namespaces) for kind in kinds))
    bodies: dict[Kind, list[Body]] = {}
    denied: dict[Kind, str] = {}
    for kind, answer in zip(kinds, answers, strict=True):
        if isinstance(answer, str):
            denied[kind] = answer
        else:
            bodies[kind] = answer
    return bodies, denied


async def _list(client: KubeClient, kind: Kind, namespaces: Iterable[str]) -> list[Body] | str:
    """Return the objects, or why they may not be read. Raises KubeError for what is needed."""
    query = {"fieldSelector": FIELD_SELECTORS[kind]} if kind in FIELD_SELECTORS else {}
    bodies: list[Body] = []
    try:
        for namespace in ("",) if kind in CLUSTER_SCOPED else namespaces:
            async for page, _ in client.pages(collection_path(kind, namespace), **query):
                bodies.extend(page)
    except KubeError as error:
        if error.status == HTTPStatus.NOT_FOUND and kind in OPTIONAL_KINDS:
            return []
        if error.status != HTTPStatus.FORBIDDEN or kind in _NEEDED:
            raise
        return error.message
    return bodies


def _with_class(world: World, name: str, settings: CompilerSettings) -> World:
    body = {
        "metadata": {"name": name},
        "spec": {"controller": settings.controller_name},
    }
    return world.put(decode(Kind.INGRESS_CLASS, body))


def _denied(kind: Kind, message: str, assumed_class: str) -> Problem:
    assumed = f"; the class {assumed_class} is taken to be ours"
    return Problem(
        severity=Severity.WARNING,
        reason="Denied",
        message=f"objects of kind {kind} may not be read, so that what follows leaves them out"
        f"{assumed if kind is Kind.INGRESS_CLASS else ''}: {message}",
        hint="ask for the right to list them, or give -n NAMESPACE",
    )
