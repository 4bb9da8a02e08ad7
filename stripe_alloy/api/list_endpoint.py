"""List endpoints, and truncated lists inside objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stripe_alloy.api.client import PAGE_SIZE
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_type import ASSUMED_HISTORY
from stripe_alloy.api.paths import encoded_id

CHILDREN = "children"
"""Field of a parent for the list of its children, if Stripe does not put it into the parent."""
PARENT_FIELDS = ("id", "object", "created", "test_clock")
NO_UPPER_BOUND = 1 << 40
"""Upper bound of a window that ends at the newest object."""


@dataclass(frozen=True)
class ListEndpoint:
    """A list endpoint."""

    path: str
    params: Sequence[tuple[str, str]] = ()
    variants: Sequence[Sequence[tuple[str, str]]] = ()
    """Sets of parameters, if one set does not list all objects; one list for each."""
    by_created: bool = True
    """Whether it can be filtered by `created`."""
    history: int = ASSUMED_HISTORY
    """Assumed length of the history in seconds."""
    expand: Sequence[str] = ()
    nested: Sequence[tuple[str, ...]] = ()
    """Paths of lists inside its objects that Stripe truncates."""
    skips_test_clocks: bool = False
    """Whether to skip objects on test clocks, if the list contains any."""
    paged: bool = True
    """Whether it takes `limit`."""
    child_list: str = ""
    """URL of the list that each object has, with `{}` for its ID, if only its children count."""

    def page(
        self, low: int = 0, high: int = NO_UPPER_BOUND, cursor: str | None = None
    ) -> list[tuple[str, str]]:
        """Return the parameters of a page: `created` in [low, high) if the list can be filtered."""
        params = [("limit", str(PAGE_SIZE))] if self.paged else []
        params += self.params
        if self.by_created and low:
            params.append(("created[gte]", str(low)))
        if self.by_created and high < NO_UPPER_BOUND:
            params.append(("created[lt]", str(high)))
        if cursor:
            params.append(("starting_after", cursor))
        expand = () if self.child_list else self.expand
        return params + [("expand[]", f"data.{path}") for path in expand]

    def with_children(self, source: JSON) -> JSON:
        """Return a parent that has only its list of children, still to be read."""
        url = self.child_list.format(encoded_id(str(source["id"])))
        kept = {name: source[name] for name in PARENT_FIELDS if name in source}
        return {**kept, CHILDREN: {"data": [], "has_more": True, "url": url}}


def is_on_test_clock(source: JSON) -> bool:
    """Whether an object is on a test clock."""
    return bool(source.get("test_clock"))


def truncated_list(source: JSON, path: Sequence[str]) -> dict[str, Any] | None:
    """Return the list at a path inside an object if it is truncated, otherwise None."""
    inner: Any = source
    for key in path:
        inner = inner.get(key)
        if not isinstance(inner, dict):  # an id, where what it names is not expanded
            return None
    found: dict[str, Any] = inner
    return found if found.get("has_more") else None


@dataclass(frozen=True)
class TruncatedList:
    """A list inside an object that Stripe truncated."""

    path: str
    content: dict[str, Any]
    """The list itself, with its first entries."""
    inside: tuple[str, ...] = ()
    """IDs of the objects that contain the list, the innermost first."""


def truncated_lists(source: JSON, listed: ListEndpoint) -> Iterator[TruncatedList]:
    """Yield each truncated list in an object.

    Expanded objects may contain lists anywhere; otherwise only the known paths are checked.
    """
    if listed.expand:
        yield from _anywhere(source, "", ())
        return
    for path in listed.nested:
        found = truncated_list(source, path)
        if found:
            yield TruncatedList(".".join(path), found, _with_id_of(source, ()))


def _anywhere(value: Any, path: str, inside: tuple[str, ...]) -> Iterator[TruncatedList]:
    if isinstance(value, list):
        for entry in value:
            yield from _anywhere(entry, path, inside)
    elif isinstance(value, dict):
        if value.get("has_more") is True and "url" in value and "data" in value:
            yield TruncatedList(path, value, inside)
        inside = _with_id_of(value, inside)
        for key, inner in value.items():
            if isinstance(inner, (dict, list)):
                yield from _anywhere(inner, f"{path}.{key}" if path else key, inside)


def _with_id_of(source: JSON, inside: tuple[str, ...]) -> tuple[str, ...]:
    own = source.get("id")
    return (own, *inside) if isinstance(own, str) and own and own not in inside else inside
