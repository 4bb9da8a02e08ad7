"""Pure: status, record counts and states of each stream, as Airbyte expects them."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from airbyte_protocol_dataclasses.models import (
    AirbyteErrorTraceMessage,
    AirbyteMessage,
    AirbyteStreamStatus,
    AirbyteStreamStatusTraceMessage,
    AirbyteTraceMessage,
    FailureType,
    StreamDescriptor,
    TraceType,
    Type,
)

from source_stripe_alloy.protocol import COMPLETE_IN, ConfiguredStream, JSONObject, state_of
from stripe_alloy.api.errors import (
    AccountAccessError,
    AccountsRefused,
    AuthenticationError,
    MissingPermissionError,
    RateLimited,
    SettingsError,
    StripeUnavailable,
    UnreadableStreamsError,
)

FAILURES: Mapping[type[Exception], FailureType] = {
    SettingsError: FailureType.config_error,
    AuthenticationError: FailureType.config_error,
    MissingPermissionError: FailureType.config_error,
    AccountAccessError: FailureType.config_error,
    AccountsRefused: FailureType.config_error,
    UnreadableStreamsError: FailureType.config_error,
    RateLimited: FailureType.transient_error,
    StripeUnavailable: FailureType.transient_error,
}
"""Error type → failure type: a configuration error, or one that a retry may resolve."""


class StreamStatusTracker:
    """Tracks statuses, record counts and states of the streams of one read."""

    def __init__(
        self, chosen: Iterable[ConfiguredStream] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self._chosen = {stream.name: stream for stream in chosen}
        self._clock = clock
        self._uncounted: Counter[str] = Counter()
        self._written_states: dict[str, JSONObject] = {}
        self._runs: set[str] = set()
        self._ended: set[str] = set()

    def started(self) -> Iterator[AirbyteMessage]:
        """Yield STARTED for each stream."""
        for name in self._chosen:
            yield self._status(name, AirbyteStreamStatus.STARTED)

    def wrote(self, name: str, records: int) -> Iterator[AirbyteMessage]:
        """Count records that are about to be written; yield RUNNING before the first."""
        self._uncounted[name] += records
        if name not in self._runs:
            self._runs.add(name)
            yield self._status(name, AirbyteStreamStatus.RUNNING)

    def new_states(self, bookmarks: Mapping[str, JSONObject]) -> Iterator[AirbyteMessage]:
        """Yield the states that changed."""
        for name in self._chosen:
            bookmark = bookmarks.get(name) or {}
            if self._uncounted[name] or bookmark != self._written_states.get(name, {}):
                yield self._state(name, bookmark)

    def ended(
        self, bookmarks: Mapping[str, JSONObject], *, but: Mapping[str, str] | None = None
    ) -> Iterator[AirbyteMessage]:
        """Yield each stream's final state and status; `but` maps failed streams to the reason."""
        self._ended = set(self._chosen)
        for name, chosen in self._chosen.items():
            bookmark = dict(bookmarks.get(name) or {})
            reason = (but or {}).get(name)
            if reason is None and not chosen.incremental and chosen.sync is not None:
                bookmark[COMPLETE_IN] = chosen.sync
            if reason is None or self._uncounted[name]:
                yield self._state(name, bookmark)
            if reason:
                yield self.error(reason, FailureType.config_error, name)
                yield self._status(name, AirbyteStreamStatus.INCOMPLETE)
            else:
                yield self._status(name, AirbyteStreamStatus.COMPLETE)

    def interrupted(self) -> Iterator[AirbyteMessage]:
        """Yield INCOMPLETE for each stream that has not ended."""
        for name in (name for name in self._chosen if name not in self._ended):
            yield self._status(name, AirbyteStreamStatus.INCOMPLETE)

    def failed(self, error: Exception) -> AirbyteMessage:
        """Return the trace of the error that stopped the run."""
        return self.error(str(error), FAILURES.get(type(error), FailureType.system_error))

    def error(self, message: str, kind: FailureType, stream: str | None = None) -> AirbyteMessage:
        """Return an error trace, of one stream or of the run."""
        return self._trace(
            AirbyteTraceMessage(
                TraceType.ERROR,
                self._clock() * 1000,
                error=AirbyteErrorTraceMessage(
                    message=message,
                    internal_message=message,
                    failure_type=kind,
                    stream_descriptor=StreamDescriptor(stream) if stream else None,
                ),
            )
        )

    def _state(self, name: str, bookmark: JSONObject) -> AirbyteMessage:
        records, self._uncounted[name] = self._uncounted[name], 0
        self._written_states[name] = copy.deepcopy(bookmark)  # the tap modifies it later
        return AirbyteMessage(Type.STATE, state=state_of(name, bookmark, records))

    def _status(self, name: str, status: AirbyteStreamStatus) -> AirbyteMessage:
        return self._trace(
            AirbyteTraceMessage(
                TraceType.STREAM_STATUS,
                self._clock() * 1000,
                stream_status=AirbyteStreamStatusTraceMessage(StreamDescriptor(name), status),
            )
        )

    @staticmethod
    def _trace(trace: AirbyteTraceMessage) -> AirbyteMessage:
        return AirbyteMessage(Type.TRACE, trace=trace)
