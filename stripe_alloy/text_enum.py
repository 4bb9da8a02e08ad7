"""Enumerations of texts."""

from __future__ import annotations

from enum import Enum


class TextEnum(str, Enum):
    """An enumeration whose members are texts and print as them, as those of `StrEnum` do.

    Python has `StrEnum` from 3.11 on; without `__str__` f-strings differ between versions.
    """

    __str__ = str.__str__
