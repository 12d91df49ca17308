"""
From a commit to its acknowledgement, and the time between.

The stream has one update in flight and skips to the newest, so the
acknowledgement of a root stands for everything before it.
"""

import time
from collections.abc import Collection

from fairway_operator.cli.dev.board import Board
from fairway_operator.reconciler import Commit
from fairway_operator.refs import ObjectRef
from fairway_operator.relay import Receipt


class Progress:
    """What the data plane serves, and what it should."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._served: Commit | None = None
        self._wanted: Commit | None = None
        self._since = 0.0
        """When the first edit was seen that is not live yet."""
        self._echoes: Collection[ObjectRef] = ()

    def committed(self, commit: Commit, edited_at: float, echoes: Collection[ObjectRef]) -> None:
        """Note what should be served."""
        self._echoes = echoes
        if not commit.published:
            self._board.show_same(commit.compilation.snapshot)
            return
        if self._served is self._wanted:
            self._since = edited_at
        self._wanted = commit

    def received(self, receipt: Receipt) -> None:
        """Note what the data plane says; called for each answer."""
        if receipt.reason:
            self._board.show_refusal(receipt.reason)
            return
        wanted, served = self._wanted, self._served
        if wanted is None or wanted is served:
            return
        snapshot = wanted.compilation.snapshot
        if receipt.root != snapshot.root:
            return
        self._served = wanted
        if served is None:
            self._board.show_routes(snapshot, self._echoes)
        else:
            milliseconds = (time.monotonic() - self._since) * 1000
            self._board.show_change(served.compilation.snapshot, snapshot, milliseconds)
