"""``fairway validate``: what is wrong with files, for people and for their CI."""

from collections.abc import Sequence

from fairway_operator.cli.forms import Output
from fairway_operator.cli.from_files import compile_files
from fairway_operator.cli.output import (
    exit_status,
    print_data,
    print_problems,
    problem_data,
    stdout,
    summary,
)
from fairway_operator.cli.problems import count, sort_key
from fairway_operator.findings import Severity


def run(paths: Sequence[str], output: Output) -> int:
    """Print the findings; return 1 when there is an error among them."""
    compiled = compile_files(paths)
    problems = sorted(compiled.problems, key=sort_key)
    objects = len(compiled.manifests.objects)
    if output is Output.TEXT:
        print_problems(each for each in problems if each.severity is not Severity.INFO)
        noun = "object" if objects == 1 else "objects"
        stdout().print(f"{objects} {noun}: {summary(problems)}")
    else:
        data = {
            "objects": objects,
            "errors": count(problems, Severity.ERROR),
            "warnings": count(problems, Severity.WARNING),
            "findings": [problem_data(each) for each in problems],
        }
        print_data(data, output)
    return exit_status(problems)
