"""
Files to a compilation: what every command that needs no cluster starts with.

It is the operator's own decoder and compiler, once. Endpoints are those of the
files: what ``fairway dev`` adds to have something to serve is not in here.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from fairway_operator.cli.manifests import Manifests, read
from fairway_operator.cli.problems import Problem, problem_of
from fairway_operator.cli.stand_ins import complete
from fairway_operator.compiler import Compilation, Compiler, CompilerSettings
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import Kind
from fairway_operator.resources import decode
from fairway_operator.world import EMPTY


@dataclass(frozen=True, slots=True)
class Compiled:
    """What files come to, and what is wrong with them."""

    manifests: Manifests
    compilation: Compilation
    problems: tuple[Problem, ...]
    without_endpoints: frozenset[str]
    """Services (``namespace/name``) of which the files have no EndpointSlice, as is usual."""


def compile_files(paths: Iterable[str]) -> Compiled:
    """Read and compile files and folders; ``-`` is standard input."""
    manifests = read(paths, sys.stdin.buffer)
    completed = complete(manifests)
    world = EMPTY
    for ref, body in completed.bodies.items():
        world = world.put(decode(ref.kind, body))
    settings = CompilerSettings(allow_local_addresses=True, keep_last_good=False)
    compilation = Compiler(settings).compile(world)
    findings = [_softened(each) for found in compilation.findings.values() for each in found]
    problems = (
        *manifests.problems,
        *completed.notes,
        *(problem_of(each, manifests.place(each.subject, each.field)) for each in findings),
    )
    services = [ref for ref in completed.bodies if ref.kind is Kind.SERVICE]
    return Compiled(
        manifests,
        compilation,
        problems,
        frozenset(f"{ref.namespace}/{ref.name}" for ref in services if not world.slices(ref)),
    )


def _softened(finding: Finding) -> Finding:
    """Make a Secret that is not in the files a warning: there it is right that it is not."""
    if finding.reason is not Reason.UNKNOWN_SECRET:
        return finding
    return msgspec.structs.replace(
        finding,
        severity=Severity.WARNING,
        hint="keep private keys out of the files; the cluster must have this Secret",
    )
