"""Which events only bring back what the target wrote: `ignore_own_writes`.

Pure, but for the look into the target's journal.
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
"""Fields that move with every change, whoever makes it."""

FieldPath = tuple[str, ...]


class WriteJournal(Protocol):
    """Where the target's writes are looked up."""

    def by_idempotency_key(self, keys: Sequence[str]) -> dict[str, LoggedWrite]:
        """Idempotency key → the write that was sent with it."""


class OwnWrites:
    """Finds the events that bring nothing but what the target wrote."""

    def __init__(self, journal: WriteJournal) -> None:
        self._journal = journal

    def __call__(self, events: Sequence[Event]) -> set[str]:
        """The ids of those events."""
        keys = {event["id"]: key for event in events if (key := _key_of(event))}
        writes = self._journal.by_idempotency_key(sorted(set(keys.values())))
        return {
            event["id"]
            for event in events
            if (write := writes.get(keys.get(event["id"], ""))) and only_brings_back(event, write)
        }


def _key_of(event: Event) -> str | None:
    request = event.get("request")  # its id alone, until 2017-05
    key = request.get("idempotency_key") if isinstance(request, dict) else None
    return key if isinstance(key, str) and key.startswith(KEY_PREFIX) else None


def only_brings_back(event: Event, write: LoggedWrite) -> bool:
    """Whether all that an event says has changed is what the write set, on the object it was for.

    A new object is not among it: its id, and what Stripe filled in, are news.
    """
    data = event["data"]
    changed = data.get("previous_attributes")
    about = write.path.rstrip("/").rpartition("/")[2]
    if changed is None or write.method != "POST" or data["object"].get("id") != about:
        return False
    sent = [_path(name) for name, _ in parse_qsl(write.body, keep_blank_values=True)]
    return all(
        path in STAMPS or any(_one_begins_the_other(path, ours) for ours in sent)
        for path in leaves(changed)
    )


def leaves(changed: Mapping[str, Any], above: FieldPath = ()) -> Iterator[FieldPath]:
    """The paths of `previous_attributes`, down to values and lists.

    >>> list(leaves({"name": "Ada", "metadata": {"a": "1", "b": None}}))
    [('name',), ('metadata', 'a'), ('metadata', 'b')]
    """
    for name, value in changed.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name)


def _path(parameter: str) -> FieldPath:
    """`metadata[a]` as ("metadata", "a")."""
    return tuple(parameter.replace("]", "").split("["))


def _one_begins_the_other(one: FieldPath, other: FieldPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
