"""The ids that requests get unless a proxy of ours has given them one."""

import os


class RequestIds:
    """Ids that nobody can guess from outside a worker, and that are counted within it."""

    __slots__ = ("_number", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(9).hex().encode()
        self._number = int.from_bytes(os.urandom(4), "big")

    def next(self) -> bytes:
        """Return an id of its own for a request: 28 hexadecimal digits."""
        self._number += 1
        return b"%b%010x" % (self._prefix, self._number)
