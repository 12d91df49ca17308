"""
Regular expressions of users, on RE2: linear in the text, whatever the pattern.

A pattern always has to match the whole text. This is the one module that knows re2.
"""

from collections.abc import Sequence
from typing import Final

import re2

LENGTH_LIMIT: Final = 512
"""Characters of one pattern."""

SIZE_LIMIT: Final = 5_000
"""Instructions of the compiled program of one pattern, which repetitions multiply."""


_LEAST_BYTES: Final = 400_000
"""Of memory to compile a pattern of the most instructions; to refuse a larger one takes longer."""


class InvalidPattern(ValueError):  # noqa: N818 - named for the user's mistake that it reports
    """A pattern that RE2 does not take, or that is over a limit; the message is for people."""


def size_of(text: str) -> int:
    """
    Return the instructions of a pattern; raises :class:`InvalidPattern`.

    For those who hold it against limits: one that is over them is refused a good
    deal sooner than by :class:`Pattern`.
    """
    if len(text) > LENGTH_LIMIT:
        raise InvalidPattern(f"a pattern of {len(text)} characters, {LENGTH_LIMIT} at most")
    size: int = _compile(text, _LEAST_BYTES).programsize
    if size > SIZE_LIMIT:
        raise InvalidPattern("the pattern repeats too much")
    return size


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_fullmatch", "text")

    def __init__(self, text: str) -> None:
        """Compile; raises :class:`InvalidPattern`."""
        if len(text) > LENGTH_LIMIT:
            raise InvalidPattern(f"a pattern of {len(text)} characters, {LENGTH_LIMIT} at most")
        compiled = _compile(text)
        if compiled.programsize > SIZE_LIMIT:
            raise InvalidPattern("the pattern repeats too much")
        self.text = text
        self._fullmatch = compiled.fullmatch

    def matches(self, text: bytes) -> bool:
        """Say whether the whole text matches; text that is not UTF-8 matches nothing."""
        return self._fullmatch(text) is not None


class Union:
    """Several patterns at once: rules all of them out with one scan."""

    __slots__ = ("_fullmatch", "text")

    def __init__(self, texts: Sequence[str]) -> None:
        """Compile; raises :class:`InvalidPattern` if RE2 cannot take them together."""
        self.text = "|".join(f"(?:{text})" for text in texts)
        if "\\Q" in self.text:
            # A quotation may run to the end of its pattern, and would swallow the next one.
            raise InvalidPattern("a pattern with a quotation does not stand in a union")
        self._fullmatch = _compile(self.text).fullmatch

    def matches(self, text: bytes) -> bool:
        """Say whether any of the patterns matches the whole text."""
        return self._fullmatch(text) is not None


def _compile(text: str, most_bytes: int | None = None) -> "re2._Regexp":
    options = re2.Options()
    if most_bytes is not None:
        options.max_mem = most_bytes
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(text, options=options)
    except re2.error as error:
        reason = error.args[0]
        message = reason.decode() if isinstance(reason, bytes) else str(reason)
        if "too large" in message:
            message = "the pattern repeats too much"
        raise InvalidPattern(message) from error
