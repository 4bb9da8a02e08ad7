"""The declaration of an object type: stream name, list, events, permission."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from stripe_alloy.api.paths import encoded_id, item_path
from stripe_alloy.api.timestamps import DAY

ASSUMED_HISTORY = 90 * DAY
"""Assumed length of a list's history in seconds."""


@dataclass(frozen=True)
class ObjectType:
    """A type of Stripe object that can be listed."""

    path: str
    """Path of the list; `{…}` is the field of the objects that contains the ID of their parent."""
    description: str
    permission: str
    """Permission to read of a restricted key, as named in the Dashboard."""
    id_prefix: str
    key_permission: str = ""
    """The permission, as in `rak_charge_read`; "" for the object's name, or that of its parent."""
    name: str = ""
    """Stream name, Stripe's plural in snake case; "" for the words of the path."""
    object_name: str = ""
    """Stripe's `object`, by which events are routed; "" for the path's singular."""
    source: str = ""
    """Class of the `stripe` package that the schema is generated from; "" for the object's own."""
    params: str = ""
    """Class name prefix of its parameters in `stripe.params`; "" for the object's own."""
    selected_by_default: bool = False
    """Whether the stream is read unless the user selects others."""
    other_paths: tuple[str, ...] = ()
    """Fallback lists, if an account refuses the first."""
    list_params: tuple[tuple[str, str], ...] = ()
    is_paged: bool = True
    """Whether the list comes in pages; otherwise it takes no `limit`."""
    list_variants: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Sets of parameters, if several lists together contain all objects."""
    filters_by_created: bool = True
    """Whether the list can be filtered by `created`."""
    history: int = ASSUMED_HISTORY
    """Assumed length of the history in seconds."""
    has_events: bool = True
    """Whether changes emit events, of the objects or of their parents."""
    created_with_others: bool = False
    """Whether new objects, without an event, are created along with objects that emit one."""
    created_without_event: bool = False
    """Whether new objects emit no event, although their changes do."""
    event_prefixes: tuple[str, ...] = ()
    """Event types, up to the last dot."""
    deletion_events: tuple[str, ...] = ()
    """Event types after which the object no longer exists."""
    deletion_events_by_id: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Event type → ID prefixes of the objects that it ends; others stay."""
    has_silent_updates: bool = False
    """Whether some updates emit no event."""
    is_complete_history: bool = True
    """Whether the list contains all existing objects.

    Otherwise a listing does not show which rows are gone, and no ACTIVATE_VERSION follows it.
    """
    parent: ObjectType | None = None
    parent_field: str | None = None
    """Field of the parent that contains these objects; None if each parent has a list of them."""
    parent_param: str = ""
    """Parameter of the list that takes the ID of the parent, if the path does not contain it."""
    parent_column: str = ""
    """Column for the ID of the parent, if the objects have no field with it."""
    test_clock_path: tuple[tuple[str, str], ...] = ()
    """(path, filter parameter) of the lists that lead from a test clock to these objects.

    Each parameter takes an ID from the previous list, the first one the ID of a clock.
    """
    replication_key: str = "updated"

    def __post_init__(self) -> None:
        words = self.path.removeprefix("/v1/")
        object_name = self.object_name or words.replace("/", ".").removesuffix("s")
        namespace, _, own = object_name.rpartition(".")
        camel = "".join(map(str.title, own.split("_")))
        in_namespace = f"{namespace}." if namespace else ""
        shared = self.parent if self.parent and self.parent.permission == self.permission else None
        key_permission = shared.key_permission if shared else object_name.replace(".", "_")
        object.__setattr__(self, "key_permission", self.key_permission or key_permission)
        object.__setattr__(self, "name", self.name or words.replace("/", "_"))
        object.__setattr__(self, "object_name", object_name)
        object.__setattr__(self, "source", self.source or f"stripe.{in_namespace}_{own}.{camel}")
        object.__setattr__(self, "params", self.params or f"{in_namespace}{camel}")

    @property
    def listed_by_parent(self) -> bool:
        """Whether each parent has a list of the objects."""
        return self.parent is not None and self.parent_field is None

    @property
    def root(self) -> ObjectType:
        """The type whose list contains the objects: the parent, or the type itself."""
        return self.parent if self.parent and self.parent_field else self

    @property
    def event_source(self) -> ObjectType:
        """The type whose events report changes of the objects: the parent, or the type itself."""
        if self.parent is None or (self.listed_by_parent and self.event_prefixes):
            return self
        return self.parent

    @property
    def needs_full_lists(self) -> bool:
        """Whether some changes are only found by reading the whole list again."""
        by_created = self.filters_by_created and not self.listed_by_parent
        return not by_created and (self.has_silent_updates or not self.has_events)

    @property
    def clock_path(self) -> tuple[tuple[str, str], ...]:
        """`test_clock_path` of the type, or of its parent."""
        return self.test_clock_path or (self.parent.clock_path if self.parent else ())

    @property
    def child_list(self) -> str:
        """URL of a parent's list of the objects, with `{}` for its encoded ID; "" if it has none.

        >>> from stripe_alloy.api.object_types import BY_NAME
        >>> BY_NAME["setup_attempts"].child_list
        '/v1/setup_attempts?setup_intent={}'
        """
        if not self.listed_by_parent:
            return ""
        query = f"?{self.parent_param}={{}}" if self.parent_param else ""
        return self.path_with("{}") + query

    def path_with(self, placeholder: str) -> str:
        """Return the path of the list with another placeholder for the ID of the parent."""
        return re.sub(r"\{\w+\}", placeholder, self.path)

    def path_of(self, source: Mapping[str, Any]) -> str | None:
        """Return the path of an object; None if the object does not name its parent.

        >>> from stripe_alloy.api.object_types import BY_NAME
        >>> BY_NAME["customer_tax_ids"].path_of({"id": "txi_1", "customer": "cus_1"})
        '/v1/customers/cus_1/tax_ids/txi_1'
        """
        names = re.findall(r"\{(\w+)\}", self.path)
        parents = {name: source.get(name) for name in names}
        if not all(isinstance(parent, str) for parent in parents.values()):
            return None
        encoded = {name: encoded_id(str(parent)) for name, parent in parents.items()}
        return item_path(self.path.format(**encoded), str(source["id"]))
