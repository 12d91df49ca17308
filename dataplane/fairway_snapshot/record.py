"""
What every part of a leaf has in common: :class:`Record`.

Records are frozen, refuse fields they do not know, and leave defaults out of
their encoded form. msgspec leaves a default out when it is the same *object*;
a record therefore replaces an equal value by the default itself, so that
equal records have equal bytes.
"""

import msgspec


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """Base of the structs of a snapshot; values hold no cycles, so none is tracked for them."""

    def __post_init__(self) -> None:
        """Replace each value that equals its default by the default."""
        defaults = self.__struct_defaults__
        names = self.__struct_fields__
        for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=True):
            value = getattr(self, name)
            if value is not default and value == default:
                msgspec.structs.force_setattr(self, name, default)
