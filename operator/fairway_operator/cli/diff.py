"""``fairway diff``: the change in meaning between two sets of files."""

import msgspec

from fairway_operator.cli.changes import Verb, differences
from fairway_operator.cli.forms import Output
from fairway_operator.cli.from_files import compile_files
from fairway_operator.cli.output import exit_status, print_data, print_problems, stdout
from fairway_snapshot.digest import short

_STYLES = {Verb.ADDED: "green", Verb.REMOVED: "red", Verb.CHANGED: "yellow", Verb.MOVED: "yellow"}


def run(old_path: str, new_path: str, output: Output) -> int:
    """Print what differs; return 1 when one of the two has errors."""
    old, new = compile_files([old_path]), compile_files([new_path])
    before, after = old.compilation.snapshot, new.compilation.snapshot
    found = differences(before, after)
    if output is Output.TEXT:
        console = stdout()
        for each in found:
            console.print(each.text, style=_STYLES[each.verb], soft_wrap=True)
        if not found:
            console.print(f"both mean the same ({short(after.root)})")
    else:
        data = {
            "old": before.root.hex(),
            "new": after.root.hex(),
            "changes": [msgspec.to_builtins(each) for each in found],
        }
        print_data(data, output)
    problems = [each for each in (*old.problems, *new.problems) if each.is_error]
    print_problems(problems)
    return exit_status(problems)
