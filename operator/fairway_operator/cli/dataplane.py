"""``fairway dataplane``: start a data plane."""

import sys
from collections.abc import Sequence

from fairway_dataplane.config import DataplaneConfig, config_from_env
from fairway_dataplane.supervisor import run_dataplane
from fairway_operator.cli.settings import environ_of


def run(arguments: Sequence[str]) -> int:
    """Run until a signal ends it; return the exit status."""
    environ = environ_of(
        "dataplane",
        DataplaneConfig,
        arguments,
        example="fairway dataplane --operators fairway-operator:8600 --workers 2",
    )
    try:
        config = config_from_env(environ)
    except ValueError as error:
        sys.stderr.write(f"fairway: {error}\n")
        return 2
    return run_dataplane(config)
