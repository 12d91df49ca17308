"""
What ``fairway dev`` prints: routes, changes and what is wrong.

Everything goes to stdout, in the order it happened, so that one can watch it;
only what keeps it from starting goes to stderr.
"""

from collections.abc import Collection, Iterable, Mapping

from rich.text import Text

from fairway_operator.cli.changes import Difference, differences
from fairway_operator.cli.output import print_problems, print_table, stdout
from fairway_operator.cli.problems import Problem
from fairway_operator.cli.routes import Address, Row, curl_of, rows_of, table_of
from fairway_operator.findings import Severity
from fairway_operator.refs import ObjectRef
from fairway_snapshot.digest import short
from fairway_snapshot.tree import Snapshot

SHOWN_ROUTES = 100
SHOWN_CHANGES = 8
SHOWN_PROBLEMS = 40

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Board:
    """One console."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._console = stdout()
        self._told: frozenset[str] = frozenset()
        self._held: tuple[str, ...] = ()
        self._had_errors = False

    def show_routes(self, snapshot: Snapshot, echoes: Collection[ObjectRef]) -> None:
        """Print all routes, and a command to try each."""
        rows = list(rows_of(snapshot))
        if not rows:
            self.say("no routes yet: none of the files holds an Ingress or a Route that serves")
            self._show_admin()
            return
        shown = rows[:SHOWN_ROUTES]
        print_table(table_of(shown, snapshot.backends), self._console)
        self._console.print()
        for row in shown:
            self._show_command(row)
        if len(rows) > len(shown):
            self.say(f"... and {len(rows) - len(shown)} more routes")
        self._console.print()
        if echoes:
            names = sorted(f"{ref.namespace}/{ref.name}" for ref in echoes)
            self.say(f"echo backends answer for {_some(names)}")
        self._show_admin()

    def show_change(self, old: Snapshot, new: Snapshot, milliseconds: float) -> None:
        """Print what is live now that was not."""
        changed = differences(old, new)
        told = changed[:SHOWN_CHANGES]
        head = f"{short(new.root)} live in {milliseconds:.0f} ms"
        if len(changed) == 1:
            self._line(f"{head}  {changed[0].text}", "green")
        else:
            self._line(f"{head}  {len(changed)} changes", "green")
            for each in told:
                self.say(f"  {each.text}")
            if len(changed) > len(told):
                self.say(f"  ... and {len(changed) - len(told)} more")
        for row in _added(told, new):
            self._show_command(row)

    def show_same(self, snapshot: Snapshot) -> None:
        """Say that an edit changed nothing that is served."""
        self._line(f"{short(snapshot.root)} unchanged: the edit means the same", "dim")

    def show_refusal(self, reason: str) -> None:
        """Say that the data plane keeps what it has."""
        self._line(f"the data plane refused the change: {reason}", "bold red")

    def show_problems(self, problems: Iterable[Problem], held: tuple[str, ...]) -> None:
        """Print what is wrong now and was not before, and what is held for it."""
        by_text: Mapping[str, Problem] = {each.text: each for each in problems}
        fresh = [each for text, each in by_text.items() if text not in self._told]
        fresh.sort(key=lambda each: _RANK[each.severity])
        print_problems(fresh[:SHOWN_PROBLEMS], self._console)
        if len(fresh) > SHOWN_PROBLEMS:
            self.say(f"... and {len(fresh) - SHOWN_PROBLEMS} more; fairway validate shows all")
        if held and (held != self._held or fresh):
            self._line(
                f"not applied: {_some(held)}; what was served before is still served, and the"
                " errors above say what would happen otherwise",
                "yellow",
            )
        has_errors = any(each.is_error for each in by_text.values())
        if self._had_errors and not has_errors:
            self._line("no errors any more", "green")
        self._had_errors = has_errors
        self._told, self._held = frozenset(by_text), held

    def say(self, line: str) -> None:
        """Print one line as it is; a terminal wraps it, so that it can be copied whole."""
        self._console.print(Text(line), soft_wrap=True)

    def _line(self, line: str, style: str) -> None:
        self._console.print(Text(line, style=style), soft_wrap=True)

    def _show_admin(self) -> None:
        admin = f"http://{self._address.shown_host}:{self._address.admin_port}"
        self.say(f"metrics and state at {admin}/metrics and {admin}/debug/routes")
        self.say("edits are served as they are saved; Ctrl-C ends")

    def _show_command(self, row: Row) -> None:
        command = curl_of(row, self._address)
        if command is not None:
            self.say(command)


def _added(told: Iterable[Difference], snapshot: Snapshot) -> list[Row]:
    """Return the routes that are new, to try them."""
    names = {
        (each.host, each.name) for each in told if each.what == "route" and each.verb == "added"
    }
    return (
        [row for row in rows_of(snapshot) if (row.host or "*", row.route.name) in names]
        if names
        else []
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more
