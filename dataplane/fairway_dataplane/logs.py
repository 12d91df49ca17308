"""
The program's own log: constant events with fields, one line each, on stderr.

Not the access log, which is one line for each request and goes to stdout.
"""

import sys
from typing import Literal

import structlog


def configure_logs(form: Literal["json", "text"]) -> None:
    """Set the form of every log line of this process."""
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
