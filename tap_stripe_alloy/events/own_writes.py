"""Finds events that only echo the target's own writes: `ignore_own_writes`.

The writes are read from the target's journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from stripe_alloy.api.events import Event
from stripe_alloy.write_log import KEY_PREFIX

if TYPE_CHECKING:
    from stripe_alloy.write_log import LoggedWrite

STAMPS = frozenset({("updated",)})
"""Fields that change with every update of an object."""

FieldPath = tuple[str, ...]


class WriteJournal(Protocol):
    """The part of the target's journal that is used here."""

    def by_idempotency_key(self, keys: Sequence[str]) -> dict[str, LoggedWrite]:
        """Return idempotency key → the write that was sent with it."""


class OwnWrites:
    """Finds events that contain nothing but the target's own writes."""

    def __init__(self, journal: WriteJournal) -> None:
        self._journal = journal

    def __call__(self, events: Sequence[Event]) -> set[str]:
        """Return the ids of the events that only echo the target's writes."""
        keys = {event["id"]: key for event in events if (key := _key_of(event))}
        writes = self._journal.by_idempotency_key(sorted(set(keys.values())))
        return {
            event["id"]
            for event in events
            if (write := writes.get(keys.get(event["id"], ""))) and only_brings_back(event, write)
        }


def _key_of(event: Event) -> str | None:
    request = event.get("request")  # before 2017-05 a request id, not an object
    key = request.get("idempotency_key") if isinstance(request, dict) else None
    return key if isinstance(key, str) and key.startswith(KEY_PREFIX) else None


def only_brings_back(event: Event, write: LoggedWrite) -> bool:
    """Whether an update event only contains changes made by this write.

    False for a new object: its id, and the values that Stripe filled in, are new.
    """
    data = event["data"]
    changed = data.get("previous_attributes")
    written_id = write.path.rstrip("/").rpartition("/")[2]
    if changed is None or write.method != "POST" or data["object"].get("id") != written_id:
        return False
    sent = [_path(name) for name, _ in parse_qsl(write.body, keep_blank_values=True)]
    return all(
        path in STAMPS or any(_is_prefix_of_other(path, ours) for ours in sent)
        for path in leaves(changed)
    )


def leaves(changed: Mapping[str, Any], above: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield the paths of `previous_attributes`, down to values and lists.

    >>> list(leaves({"name": "Ada", "metadata": {"a": "1", "b": None}}))
    [('name',), ('metadata', 'a'), ('metadata', 'b')]
    """
    for name, value in changed.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name)


def _path(parameter: str) -> FieldPath:
    """Return the path of a form parameter: `metadata[a]` → ("metadata", "a")."""
    return tuple(parameter.replace("]", "").split("["))


def _is_prefix_of_other(one: FieldPath, other: FieldPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
