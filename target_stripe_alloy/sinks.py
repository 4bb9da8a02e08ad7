"""A stream on its way in: its records become jobs, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from singer_sdk.sinks import RecordSink
from typing_extensions import override

from stripe_alloy.api.errors import SettingsError
from target_stripe_alloy.plan.plan_types import IdMode
from target_stripe_alloy.plan.record_keys import RecordKey, UnusableKey
from target_stripe_alloy.resources import BY_STREAM
from target_stripe_alloy.write.queued_records import IncomingStream, QueuedRecord

if TYPE_CHECKING:
    from singer_sdk import Target

    from target_stripe_alloy.report import Report
    from target_stripe_alloy.settings import TargetSettings
    from target_stripe_alloy.write.engine import Engine

BATCH = 250
"""Records that are looked up in the journal at a time."""
BATCH_BYTES = 8 << 20


class SinkOwner(Protocol):
    """What a sink needs of its target, beside what the SDK asks of one."""

    @property
    def engine(self) -> Engine:
        """What writes the records."""

    @property
    def report(self) -> Report:
        """What counts them."""

    settings: TargetSettings


class StripeSink(RecordSink):
    """Hands records of one stream to the engine."""

    def __init__(self, target: Target, *arguments: Any, **named: Any) -> None:
        super().__init__(target, *arguments, **named)
        owner = cast("SinkOwner", target)
        resource = BY_STREAM.get(self.stream_name)
        if resource is None:
            raise SettingsError(
                f"Stream {self.stream_name!r} is none that can be written: {', '.join(BY_STREAM)}. "
                "Rename it with `stream_maps` (`__alias__`), or leave it out"
            )
        self._engine = owner.engine
        self._report = owner.report
        self._resource = resource
        self._policy = owner.settings.policy
        self._kind: IncomingStream | None = None
        self._jobs: list[QueuedRecord] = []
        self._size = 0
        self._since = 0.0

    def kind_of(
        self, source: str, schema: Mapping[str, Any], key_properties: Sequence[str]
    ) -> IncomingStream:
        """Return what the records of a source stream are that come here, and declare it.

        Several may come to one sink, each with a SCHEMA of its own.
        """
        resource, policy = self._resource, self._policy
        names = key_properties if policy.id_mode == IdMode.EXTERNAL else ("id",)
        metadata = schema["properties"].get("metadata", {})
        kind = IncomingStream(
            resource,
            RecordKey(policy.id_mode, names, policy.match_by.get(resource.stream, ())),
            whole=not isinstance(metadata, dict) or "properties" not in metadata,
            source=source,
            key_properties=tuple(key_properties),
        )
        self._engine.declare(kind)
        return kind

    @override
    def get_validator(self) -> None:
        """A record that Stripe cannot take is set aside by itself, it does not stop the run."""
        return

    def take(self, record: dict[str, Any], kind: IncomingStream) -> None:
        """Take a record of a source stream."""
        if kind is not self._kind:
            self.flush()
            self._kind = kind
        self.process_record(record, {})

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        kind = self._kind
        assert kind is not None  # noqa: S101 - `take` is what the target calls
        self._report.read(self.stream_name)
        keys = kind.keys
        try:
            key = keys.of(record)
            keys.match_values(record, present=True)
        except UnusableKey as error:
            self._set_aside(kind, record, str(error))
            return
        if key is None:
            names = ", ".join(keys.properties) or "the stream has no key properties"
            self._set_aside(kind, record, f"it has no key: {names}")
            return
        number = self._engine.watermark.issue()
        if not self._jobs:
            self._since = time.monotonic()
        digest, size = self._engine.fingerprint(record)
        self._jobs.append(QueuedRecord(kind, key, record, number, digest, keys.label(record), size))
        self._size += size
        if len(self._jobs) >= BATCH or self._size >= BATCH_BYTES:
            self.flush()

    def _set_aside(self, kind: IncomingStream, record: dict[str, Any], why: str) -> None:
        job = QueuedRecord(kind, "", record, self._engine.watermark.last, b"")
        self._engine.reject(job, why)

    def flush(self, *, older_than: float = 0.0) -> None:
        """Hand on what is held, if it is held for so many seconds."""
        if self._jobs and time.monotonic() - self._since >= older_than:
            jobs, self._jobs, self._size = self._jobs, [], 0
            self._engine.submit(jobs)
