"""Queues the records of a stream, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from singer_sdk.sinks import RecordSink
from typing_extensions import override

from stripe_alloy.api.errors import SettingsError
from target_stripe_alloy.plan.plan_types import IdMode
from target_stripe_alloy.plan.record_keys import RecordKey
from target_stripe_alloy.resources import BY_STREAM
from target_stripe_alloy.write.queued_records import IncomingStream, QueuedRecord

if TYPE_CHECKING:
    from singer_sdk import Target

    from target_stripe_alloy.settings import TargetSettings
    from target_stripe_alloy.write.record_queue import RecordQueue

BATCH = 250
"""Records that are looked up in the journal at a time."""
BATCH_BYTES = 8 << 20


class SinkOwner(Protocol):
    """The part of the target that sinks use."""

    settings: TargetSettings
    queue: RecordQueue


class StripeSink(RecordSink):
    """Queues the records of one stream, a batch at a time."""

    def __init__(self, target: Target, *arguments: Any, **named: Any) -> None:
        super().__init__(target, *arguments, **named)
        owner = cast("SinkOwner", target)
        resource = BY_STREAM.get(self.stream_name)
        if resource is None:
            raise SettingsError(
                f"Stream {self.stream_name!r} cannot be written. Known: {', '.join(BY_STREAM)}. "
                "Rename it with `stream_maps` (`__alias__`), or leave it out"
            )
        self._queue = owner.queue
        self._resource = resource
        self._policy = owner.settings.policy
        self._incoming: IncomingStream | None = None
        self._batch: list[QueuedRecord] = []
        self._size = 0
        self._since = 0.0

    def declare(
        self, source: str, schema: Mapping[str, Any], key_properties: Sequence[str]
    ) -> IncomingStream:
        """Declare a source stream of this sink.

        A sink may have several, each with its SCHEMA.
        """
        resource, policy = self._resource, self._policy
        names = key_properties if policy.id_mode == IdMode.EXTERNAL else ("id",)
        metadata = schema["properties"].get("metadata", {})
        incoming = IncomingStream(
            resource,
            RecordKey(policy.id_mode, names, policy.match_by.get(resource.stream, ())),
            metadata_complete=not isinstance(metadata, dict) or "properties" not in metadata,
            source=source,
            key_properties=tuple(key_properties),
        )
        self._queue.declare(incoming)
        return incoming

    @override
    def get_validator(self) -> None:
        """A record that Stripe cannot take is rejected alone: it does not stop the run."""
        return

    def take(self, record: dict[str, Any], incoming: IncomingStream) -> None:
        """Take a record of a source stream."""
        if incoming is not self._incoming:
            self.flush()
            self._incoming = incoming
        self.process_record(record, {"incoming": incoming})

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        queued = self._queue.admit(context["incoming"], record)
        if queued is None:
            return
        if not self._batch:
            self._since = time.monotonic()
        self._batch.append(queued)
        self._size += queued.size
        if len(self._batch) >= BATCH or self._size >= BATCH_BYTES:
            self.flush()

    def flush(self, *, older_than: float = 0.0) -> None:
        """Submit the batch, if its first record was received that many seconds ago."""
        if self._batch and time.monotonic() - self._since >= older_than:
            batch, self._batch, self._size = self._batch, [], 0
            self._queue.submit(batch)
