import dataclasses
from dataclasses import dataclass

import pytest

from fairway_snapshot.settings import describe, read_settings


@dataclass(frozen=True, kw_only=True)
class Limits:
    bytes: int = 10
    """How much."""


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str = "x"
    """A name."""

    networks: tuple[str, ...] = ()
    """Networks."""

    fast: bool = False
    """Faster."""

    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name: bad will not do")


def test_what_is_not_given_is_a_default() -> None:
    assert read_settings(Config, {}) == Config()


def test_values_are_parsed_by_their_type() -> None:
    environ = {
        "FAIRWAY__NAME": "y",
        "FAIRWAY__NETWORKS": "10.0.0.0/8, ,::/0",
        "FAIRWAY__FAST": "true",
        "FAIRWAY__LIMITS__BYTES": "7",
        "FAIRWAY_PORT": "tcp://10.0.0.1:80",
        "HOME": "/",
    }
    assert read_settings(Config, environ) == Config(
        name="y", networks=("10.0.0.0/8", "::/0"), fast=True, limits=Limits(bytes=7)
    )


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("FAIRWAY__NAMES", "x", "unknown setting FAIRWAY__NAMES"),
        ("FAIRWAY__LIMITS", "x", "unknown setting FAIRWAY__LIMITS"),
        ("FAIRWAY__LIMITS__BYTES", "ten", "FAIRWAY__LIMITS__BYTES='ten'"),
        ("FAIRWAY__FAST", "maybe", "FAIRWAY__FAST='maybe'"),
        ("FAIRWAY__NAME", "bad", "will not do"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(variable: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(Config, {variable: text})


def test_each_setting_has_its_documentation() -> None:
    described = {setting.variable: setting for setting in describe(Config)}
    assert described["FAIRWAY__LIMITS__BYTES"].doc == "How much."
    assert described["FAIRWAY__LIMITS__BYTES"].flag == "--limits-bytes"
    assert described["FAIRWAY__LIMITS__BYTES"].default == dataclasses.fields(Limits)[0].default
