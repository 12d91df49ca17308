"""What stops a cluster from starting, said so that its reader can go on."""

from pathlib import Path


class FaultError(Exception):
    """A cluster cannot do what was asked; the message says why, the hint what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n  {hint}" if hint else message)


class MissingError(FaultError):
    """Something is not on this machine."""


def tail(log: Path, lines: int = 20) -> str:
    """Return the end of a log, for the message of an error."""
    if not log.exists():
        return f"{log}: never written"
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join((f"{log}:", *(f"  {line}" for line in text)))
