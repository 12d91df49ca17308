"""
Paths and hosts that are put into requests, as users write them.

The one rule: what is taken here, a data plane can build. It refuses a snapshot
with a filter that it cannot build, and so one object could keep the changes of
all others from being served.
"""

from typing import Final
from urllib.parse import quote

from fairway_snapshot.target import TargetRefused, normalize_host, normalize_path

_AS_IT_IS: Final = "/!$&'()*+,;=:@%~"


def normal_path(text: str) -> str:
    """Return a path in the form that requests have after normalisation. Raises ValueError."""
    try:
        return normalize_path(quote(text, safe=_AS_IT_IS).encode()).decode()
    except TargetRefused as error:
        raise ValueError(f"{text[:80]!r} is a path that no request has ({error})") from error


def sent_host(text: str) -> str:
    """Return a host as it is sent. Raises ValueError for what no request can name."""
    try:
        return normalize_host(text.encode()).decode()
    except TargetRefused as error:
        raise ValueError(f"{text[:80]!r} is not a host name") from error
