"""A stream on its way in: its records become jobs, a batch at a time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from singer_sdk.sinks import RecordSink
from typing_extensions import override

from stripe_alloy.errors import SettingsError
from target_stripe_alloy.decision import EXTERNAL
from target_stripe_alloy.jobs import Job, StreamKind
from target_stripe_alloy.record_keys import Keys, UnusableKey
from target_stripe_alloy.resources import BY_STREAM

if TYPE_CHECKING:
    from target_stripe_alloy.target import TargetStripeAlloy

BATCH = 250
"""Records that are looked up in the journal at a time."""
BATCH_BYTES = 8 << 20


class StripeSink(RecordSink):
    """Hands records of one stream to the engine."""

    def __init__(self, target: TargetStripeAlloy, *arguments: Any, **named: Any) -> None:
        super().__init__(target, *arguments, **named)
        resource = BY_STREAM.get(self.stream_name)
        if resource is None:
            raise SettingsError(
                f"Stream {self.stream_name!r} is none that can be written: {', '.join(BY_STREAM)}. "
                "Rename it with `stream_maps` (`__alias__`), or leave it out"
            )
        self._engine = target.engine
        self._report = target.report
        policy = target.settings.policy
        external = policy.id_mode == EXTERNAL
        names = self.key_properties if external else ("id",)
        metadata = self.schema["properties"].get("metadata", {})
        self._kind = StreamKind(
            resource,
            Keys(policy.id_mode, names, policy.match_by.get(resource.stream, ())),
            whole=not isinstance(metadata, dict) or "properties" not in metadata,
        )
        self.source = self.stream_name
        """The stream's name before stream maps, of the record that comes next."""
        self._engine.declare(self._kind)
        self._jobs: list[Job] = []
        self._size = 0
        self._since = 0.0

    @override
    def get_validator(self) -> None:
        """A record that Stripe cannot take is set aside by itself, it does not stop the run."""
        return

    def missing_keys(self, record: dict[str, Any]) -> list[str]:
        """Return the key properties that a record lacks; none if `match_by` may do without."""
        if self._kind.keys.match:
            return []
        return [key for key in self.key_properties if key not in record]

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        self._report.read(self.stream_name)
        keys = self._kind.keys
        try:
            key = keys.of(record)
            keys.match_values(record, present=True)
        except UnusableKey as error:
            self._set_aside(record, str(error))
            return
        if key is None:
            names = ", ".join(keys.properties) or "the stream has no key properties"
            self._set_aside(record, f"it has no key: {names}")
            return
        number = self._engine.watermark.issue()
        if not self._jobs:
            self._since = time.monotonic()
        digest, size = self._engine.fingerprint(record)
        if self._kind.source != self.source:
            self.flush()
            self._kind = replace(self._kind, source=self.source)
        self._jobs.append(Job(self._kind, key, record, number, digest, keys.label(record), size))
        self._size += size
        if len(self._jobs) >= BATCH or self._size >= BATCH_BYTES:
            self.flush()

    def _set_aside(self, record: dict[str, Any], why: str) -> None:
        job = Job(self._kind, "", record, self._engine.watermark.last, b"")
        self._engine.reject(job, why)

    def flush(self, *, older_than: float = 0.0) -> None:
        """Hand on what is held, if it is held for so many seconds."""
        if self._jobs and time.monotonic() - self._since >= older_than:
            jobs, self._jobs, self._size = self._jobs, [], 0
            self._engine.submit(jobs)
