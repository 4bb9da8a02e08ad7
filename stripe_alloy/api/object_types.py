"""All declared object types.

The tap, the target, the emulator, the webhook registration, the permission tables and the schema
generator read these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.optional_object_types import OPTIONAL_TYPES

TEST_CLOCKS_PATH = "/v1/test_helpers/test_clocks"
OBJECT_TYPES: tuple[ObjectType, ...] = (*DEFAULT_TYPES, *OPTIONAL_TYPES)
BY_NAME: Mapping[str, ObjectType] = MappingProxyType({kind.name: kind for kind in OBJECT_TYPES})
BY_OBJECT: Mapping[str, ObjectType] = MappingProxyType(
    {kind.object_name: kind for kind in reversed(OBJECT_TYPES)}
)


@dataclass(frozen=True)
class ListHop:
    """A list on the way from a test clock to an object."""

    path: str
    param: str | None
    """Filter parameter that takes an ID from the previous list; None for the list of clocks."""
    permission: str


def test_clock_hops(kind: ObjectType) -> list[ListHop]:
    """Return the lists to read for a type's objects on test clocks; empty if it has none."""
    permissions = {of.path: of.permission for of in OBJECT_TYPES}
    found = [ListHop(path, param, permissions[path]) for path, param in kind.clock_path]
    return [ListHop(TEST_CLOCKS_PATH, None, "Test clocks: read"), *found] if found else []
