"""
Settings of a program as flags: ``--http-port 8080`` is ``FAIRWAY__HTTP_PORT=8080``.

Flags and their help are made from the fields of the program's config, so that
there is one list of settings and nothing to keep in step.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fairway_snapshot.settings import describe


def environ_of(
    program: str, config: type[Any], arguments: Sequence[str], *, example: str
) -> Mapping[str, str]:
    """
    Return the environment with the flags in it; flags win.

    Ends the program with status 2 for an unknown flag, and with 0 for ``--help``.
    """
    parser = argparse.ArgumentParser(
        prog=f"fairway {program}",
        usage=f"fairway {program} [--setting VALUE]...",
        allow_abbrev=False,
        description="Every flag may be given as a variable of the environment instead.",
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for setting in describe(config):
        text = setting.doc.replace("\n", " ").replace("%", "%%").replace("``", "")
        parser.add_argument(
            setting.flag,
            dest=setting.variable,
            metavar="VALUE",
            help=f"{text} Default: {_shown(setting.default)} ({setting.variable})",
        )
    given = vars(parser.parse_args(arguments))
    return {**os.environ, **{name: value for name, value in given.items() if value is not None}}


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if default != "" else "empty"
