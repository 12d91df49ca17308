"""``fairway operator``: start the operator."""

import asyncio
import sys
from collections.abc import Sequence

from fairway_operator.app import run_operator
from fairway_operator.cli.settings import environ_of
from fairway_operator.config import OperatorConfig, config_from_env


def run(arguments: Sequence[str]) -> int:
    """Run until a signal ends it; return the exit status."""
    environ = environ_of(
        "operator",
        OperatorConfig,
        arguments,
        example="fairway operator --kubeconfig ~/.kube/config",
    )
    try:
        config = config_from_env(environ)
    except ValueError as error:
        sys.stderr.write(f"fairway: {error}\n")
        return 2
    return asyncio.run(run_operator(config))
