"""
The forms of what a command prints.

Apart from :mod:`fairway_operator.cli.output`, which prints them, because
``--help`` names the forms and must not wait for what printing needs.
"""

from enum import StrEnum


class Output(StrEnum):
    """For people, or one of two for programs."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
