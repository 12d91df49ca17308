"""What ``fairway dev`` writes of a bug."""

import subprocess
import sys

BUG = """
import structlog
from fairway_operator.cli.dev.session import _quiet_logs

def fail(body):
    raise KeyError("tls.crt")

_quiet_logs()
try:
    fail({"stringData": {"tls.key": "-----BEGIN " + "PRIVATE KEY-----"}})
except KeyError:
    structlog.get_logger().exception("bug")
"""


def test_a_traceback_shows_where_and_not_what_was_in_the_files() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BUG], capture_output=True, text=True, check=True, timeout=60
    )

    assert "bug" in ran.stderr
    assert "KeyError: 'tls.crt'" in ran.stderr
    assert "PRIVATE KEY" not in ran.stdout + ran.stderr
