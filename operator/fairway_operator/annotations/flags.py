"""Values that are true or false."""


def parse_flag(text: str) -> bool:
    """Return the value; nothing but the two words is taken."""
    if text not in ("true", "false"):
        raise ValueError(f'{text[:40]!r} is neither true nor false; write "true" or "false"')
    return text == "true"
