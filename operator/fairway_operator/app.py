"""
The operator as a program: builds the objects and owns the tasks.

Every long-lived task of the operator is started here, in one TaskGroup; nothing
else starts a task that outlives its own call.
"""

from fairway_operator.config import OperatorConfig


async def run_operator(config: OperatorConfig) -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    raise NotImplementedError
