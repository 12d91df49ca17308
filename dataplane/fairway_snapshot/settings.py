"""
Settings of a program as one frozen dataclass, read from ``FAIRWAY__*`` variables.

A field is a setting; the string under it is its documentation, from which the
reference page, ``--help`` and the chart's schema are made. A field that is a
dataclass itself is a group. An unknown ``FAIRWAY__`` name is refused: a
misspelt setting must not become a default.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

import msgspec

PREFIX = "FAIRWAY__"
"""
Two underscores, because Kubernetes sets ``FAIRWAY_PORT`` and its kin in each
pod that can see a Service named fairway.
"""

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as people see it."""

    path: tuple[str, ...]
    """Names of the fields that lead to it."""
    kind: Any
    """Its Python type, as ``typing`` writes it."""
    default: object
    doc: str

    @property
    def variable(self) -> str:
        """``FAIRWAY__LIMITS__HEADER_BYTES``."""
        return PREFIX + "__".join(self.path).upper()

    @property
    def flag(self) -> str:
        """``--limits-header-bytes``."""
        return "--" + "-".join(self.path).replace("_", "-")


def describe(config: type[Any]) -> tuple[Setting, ...]:
    """Return every setting of a dataclass, in the order of the source."""
    return tuple(_settings(config, ()))


def read_settings(config: type[Config], environ: Mapping[str, str]) -> Config:
    """
    Make a config from ``FAIRWAY__<FIELD>`` variables; lists are separated by commas.

    Raises ValueError, with the variable's name, for a value that does not
    parse, for one that the config refuses, and for an unknown name.
    """
    settings = {setting.variable: setting for setting in describe(config)}
    given: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in settings:
            raise ValueError(f"unknown setting {variable}")
        setting = settings[variable]
        at = given
        for name in setting.path[:-1]:
            at = at.setdefault(name, {})
        at[setting.path[-1]] = _parse(variable, text, setting.kind)
    return cast("Config", _make(config, given))


def _settings(owner: type[Any], path: tuple[str, ...]) -> Iterator[Setting]:
    docs = _docs(owner)
    hints = get_type_hints(owner)
    for entry in fields(owner):
        at = (*path, entry.name)
        kind = hints[entry.name]
        if is_dataclass(kind):
            yield from _settings(cast("type[Any]", kind), at)
            continue
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        yield Setting(path=at, kind=kind, default=default, doc=docs[entry.name])


def _docs(owner: type) -> dict[str, str]:
    """Return the string under each field of a class."""
    (definition,) = ast.parse(inspect.getsource(owner)).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = inspect.cleandoc(text)
    return docs


def _parse(variable: str, text: str, kind: Any) -> object:
    value: object = text
    if str(kind).startswith("tuple["):
        value = [part for part in (part.strip() for part in text.split(",")) if part]
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{variable}={text!r}: {error}") from None


def _make(owner: type, given: Mapping[str, Any]) -> Any:
    hints = get_type_hints(owner)
    return owner(
        **{
            name: _make(hints[name], value) if is_dataclass(hints[name]) else value
            for name, value in given.items()
        }
    )
