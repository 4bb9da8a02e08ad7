"""Holds each record of a stream against Stripe's object of the same id."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from singer_sdk.sinks import RecordSink
from typing_extensions import override

from stripe_alloy.errors import NotFound, SettingsError
from tap_stripe_alloy.completion import Completion
from tap_stripe_alloy.fetch import Get
from tap_stripe_alloy.lists import Listed
from tap_stripe_alloy.records import Recorder
from tap_stripe_alloy.shape import nested_lists, stream_schema
from tap_stripe_alloy.streams import BY_NAME
from target_stripe_alloy.compare import differences

if TYPE_CHECKING:
    from target_stripe_alloy.target import TargetStripeAlloy

VERDICTS = ("read", "unchanged", "different", "missing")


class CompareSink(RecordSink):
    """Sends one GET a record, more for lists cut short, and nothing else."""

    def __init__(self, target: TargetStripeAlloy, *arguments: Any, **named: Any) -> None:
        super().__init__(target, *arguments, **named)
        stream = BY_NAME.get(self.stream_name)
        if stream is None or stream.parent:
            own = ", ".join(name for name, kind in BY_NAME.items() if not kind.parent)
            raise SettingsError(
                f"Stream {self.stream_name!r} names no kind of object that can be compared: {own}"
            )
        self._path = stream.path
        self._transport = target.transport
        self._account = target.config.get("account_id")
        schema = stream_schema(stream.name, expand=(), unix=False)
        self._listed = Listed(stream.path, nested=nested_lists(schema))
        self._recorder = Recorder(schema, account_id=None, unix=False)
        self.counts: Counter[str] = Counter()

    @override
    def _parse_timestamps_in_record(self, *arguments: Any, **named: Any) -> None:
        """Times stay as they came: they are compared as text."""

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        self.counts["read"] += 1
        self.counts[self._verdict(record)] += 1

    @override
    def clean_up(self) -> None:
        told = ", ".join(f"{name} {self.counts[name]}" for name in VERDICTS)
        self.logger.info("%s: %s", self.stream_name, told)

    def _verdict(self, record: dict[str, Any]) -> str:
        current = self._current(record["id"])
        if current is None:
            return "unchanged" if record.get("deleted") else "missing"
        if record.get("deleted"):
            self.logger.info("%s %s still exists", self.stream_name, record["id"])
            return "different"
        found = differences(record, self._recorder.record(current, 0))
        for name, (before, after) in found.items():
            self.logger.info(
                "%s %s.%s: %r in Stripe, %r here",
                self.stream_name,
                record["id"],
                name,
                before,
                after,
            )
        return "different" if found else "unchanged"

    def _current(self, source_id: str) -> dict[str, Any] | None:
        try:
            body = self._transport.get(f"{self._path}/{source_id}", account=self._account).body
        except NotFound:
            return None
        return None if body.get("deleted") else self._whole(body)

    def _whole(self, source: dict[str, Any]) -> dict[str, Any]:
        """Return the object with the lists inside it complete."""
        completion = Completion(
            [source], self._listed, account=self._account, then=lambda _: iter(())
        )
        steps = deque(completion.steps())
        while steps:
            get = steps.popleft()
            assert isinstance(get, Get)  # noqa: S101 - `then` yields no batches
            answer = self._transport.get(get.path, get.params, account=get.account)
            steps.extend(get.then(answer))
        return source
