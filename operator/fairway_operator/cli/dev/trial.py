"""
What would come of the files, before anything is served.

An edit must not take away what works. So each new state of the files is
compiled on the side first; a file whose edit breaks an object that was fine is
held: what it was before goes on being served until the file is right again.
An object that is new has nothing to lose: its good parts are served at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fairway_operator import world as worlds
from fairway_operator.cli.dev.furnish import Furniture
from fairway_operator.cli.manifests import FileContent, Manifests, merge
from fairway_operator.cli.problems import Problem, problem_of
from fairway_operator.cli.stand_ins import Body, complete
from fairway_operator.compiler import Compilation, Compiler, CompilerSettings
from fairway_operator.findings import Finding, Severity
from fairway_operator.refs import ObjectRef
from fairway_operator.resources import decode

Contents = Mapping[str, FileContent]


@dataclass(frozen=True, slots=True)
class Trial:
    """One state of the files, and what comes of it."""

    contents: Contents
    manifests: Manifests
    bodies: Mapping[ObjectRef, Body]
    echoes: frozenset[ObjectRef]
    problems: tuple[Problem, ...]
    """Everything that is to be said of it, with places."""
    errors: frozenset[Finding]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be served."""

    trial: Trial
    held: tuple[str, ...]
    """Files of which an earlier state is in ``trial``."""
    wanted: Trial
    """What would be served if nothing was held."""


class Trials:
    """Compiles on the side; owns a compiler of its own."""

    def __init__(self, settings: CompilerSettings, furniture: Furniture) -> None:
        self._compiler = Compiler(settings)
        self._furniture = furniture
        self._world = worlds.EMPTY
        self._bodies: Mapping[ObjectRef, Body] = {}

    async def admit(self, current: Trial | None, contents: Contents) -> Admitted:
        """Return what may be served of ``contents`` while ``current`` is."""
        wanted = await self._make(contents)
        if current is None or not _is_worse(wanted, current):
            return Admitted(wanted, (), wanted)
        names = [*contents, *(name for name in current.contents if name not in contents)]
        changed = [name for name in names if contents.get(name) != current.contents.get(name)]
        admitted: set[str] = set()
        best = current
        for name in changed if len(changed) > 1 else ():
            trial = await self._make(_mixed(names, contents, current.contents, {*admitted, name}))
            if not _is_worse(trial, current):
                best = trial
                admitted.add(name)
        return Admitted(best, tuple(name for name in changed if name not in admitted), wanted)

    async def _make(self, contents: Contents) -> Trial:
        manifests = merge(contents.values())
        completed = complete(manifests)
        furnished = await self._furniture.furnish(completed, manifests)
        compilation = self._compile(furnished.bodies)
        findings = [each for found in compilation.findings.values() for each in found]
        return Trial(
            contents=contents,
            manifests=manifests,
            bodies=furnished.bodies,
            echoes=furnished.echoes,
            problems=(
                *manifests.problems,
                *completed.notes,
                *furnished.notes,
                *(problem_of(each, manifests.place(each.subject, each.field)) for each in findings),
            ),
            errors=frozenset(each for each in findings if each.severity is Severity.ERROR),
        )

    def _compile(self, bodies: Mapping[ObjectRef, Body]) -> Compilation:
        world = self._world
        for ref in self._bodies.keys() - bodies.keys():
            world = world.remove(ref)
        for ref, body in bodies.items():
            if self._bodies.get(ref) != body:
                world = world.put(decode(ref.kind, body))
        self._world, self._bodies = world, bodies
        return self._compiler.compile(world)


def _is_worse(trial: Trial, current: Trial) -> bool:
    """Tell whether an object of both states has an error in one that it has not in the other."""
    return any(
        error.subject in current.bodies and error.subject in trial.bodies
        for error in trial.errors - current.errors
    )


def _mixed(names: list[str], new: Contents, old: Contents, admitted: set[str]) -> Contents:
    """Return the new content of the admitted files and the old one of all others."""
    mixed = {name: (new if name in admitted else old).get(name) for name in names}
    return {name: content for name, content in mixed.items() if content is not None}
