"""Pure: converts settings, catalogs and states between Singer's and Airbyte's formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from airbyte_protocol_dataclasses.models import (
    AirbyteStateBlob,
    AirbyteStateMessage,
    AirbyteStateStats,
    AirbyteStateType,
    AirbyteStream,
    AirbyteStreamState,
    ConnectorSpecification,
    DestinationSyncMode,
    StreamDescriptor,
    SyncMode,
)

from stripe_alloy.api.errors import SettingsError

JSONObject = dict[str, Any]

OMITTED_SETTINGS = ("emit_activate_version_messages",)
"""Settings that have no meaning in Airbyte."""
COMPLETE_IN = "complete_in"
"""State field: the sync whose full refresh of the stream is complete."""
DOCUMENTATION = "https://docs.stripe.com/keys/restricted-api-keys"


def drop_none(value: Any) -> Any:
    """Return a message as JSON values, without fields that are None.

    Values inside a record or a state are not changed.
    """
    if is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: drop_none(inner) for name, inner in pairs if inner is not None}
    return [drop_none(entry) for entry in value] if isinstance(value, list) else value


def specification(settings: Mapping[str, Any]) -> ConnectorSpecification:
    """Return the connection form for the tap's settings; `settings` is their JSON schema."""
    properties = {
        name: _field(declared, order)
        for order, (name, declared) in enumerate(settings["properties"].items())
        if name not in OMITTED_SETTINGS
    }
    return ConnectorSpecification(
        connectionSpecification={
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Stripe Alloy",
            "type": "object",
            "required": list(settings["required"]),
            "properties": properties,
            "additionalProperties": True,
        },
        documentationUrl=DOCUMENTATION,
        supportsIncremental=True,
        supported_destination_sync_modes=[
            DestinationSyncMode.append,
            DestinationSyncMode.append_dedup,
            DestinationSyncMode.overwrite,
        ],
        protocol_version="0.2.0",
    )


def _field(declared: Mapping[str, Any], order: int) -> JSONObject:
    """Return a setting with a single type: a form shows two inputs for one that may be null."""
    field = {name: value for name, value in declared.items() if name not in ("secret", "writeOnly")}
    field["type"] = next(name for name in declared["type"] if name != "null")
    if declared.get("secret"):
        field["airbyte_secret"] = True
    return {**field, "order": order}


def stream_of(entry: Mapping[str, Any]) -> AirbyteStream:
    """Convert a stream of a Singer catalog (`tap_stream_id`, `schema`, `metadata`) to Airbyte's."""
    root = next(row["metadata"] for row in entry["metadata"] if not row["breadcrumb"])
    return AirbyteStream(
        name=entry["tap_stream_id"],
        json_schema=entry["schema"],
        supported_sync_modes=[SyncMode.full_refresh, SyncMode.incremental],
        source_defined_cursor=True,
        default_cursor_field=list(root["valid-replication-keys"]),
        source_defined_primary_key=[[name] for name in root["table-key-properties"]],
        is_resumable=True,
    )


@dataclass(frozen=True)
class ConfiguredStream:
    """A stream of a configured catalog."""

    name: str
    incremental: bool
    sync: int | None
    """Number of the sync; the same in each attempt."""


def parse_catalog(configured: Any, known: Iterable[str]) -> list[ConfiguredStream]:
    """Return the streams of a configured catalog; raises `SettingsError` if it is invalid."""
    try:
        found = [
            ConfiguredStream(
                entry["stream"]["name"],
                SyncMode(entry["sync_mode"]) is SyncMode.incremental,
                entry.get("sync_id"),
            )
            for entry in configured["streams"]
        ]
    except (KeyError, TypeError, ValueError):
        raise SettingsError("The --catalog is not a configured catalog of Airbyte") from None
    unknown = sorted({chosen.name for chosen in found} - set(known))
    if unknown:
        raise SettingsError(
            f"Unknown stream {', '.join(map(repr, unknown))}: refresh the connection's schema"
        )
    return found


def select(catalog: Mapping[str, Any], chosen: Sequence[ConfiguredStream]) -> JSONObject:
    """Return a Singer catalog in which only the chosen streams are selected, with all fields."""
    names = {stream.name for stream in chosen}
    return {"streams": [_marked(entry, names) for entry in catalog["streams"]]}


def _marked(entry: Mapping[str, Any], selected: set[str]) -> JSONObject:
    marks = [
        row
        if row["breadcrumb"]
        else {
            **row,
            "metadata": {**row["metadata"], "selected": entry["tap_stream_id"] in selected},
        }
        for row in entry["metadata"]
    ]
    return {**entry, "metadata": marks}


def state_of(name: str, bookmark: Mapping[str, Any], records: int) -> AirbyteStateMessage:
    """Return a stream's STATE message with the number of records since the previous one."""
    return AirbyteStateMessage(
        type=AirbyteStateType.STREAM,
        stream=AirbyteStreamState(
            # The model of the blob has no fields: it stands for any JSON object.
            StreamDescriptor(name),
            cast("AirbyteStateBlob", dict(bookmark)),
        ),
        sourceStats=AirbyteStateStats(float(records)),
    )


def bookmarks_in(states: Any) -> dict[str, JSONObject]:
    """Return stream → bookmark from a --state file's content; raises `SettingsError` if invalid."""
    try:
        found = {
            entry["stream"]["stream_descriptor"]["name"]: entry["stream"].get("stream_state") or {}
            for entry in states or ()
        }
    except (KeyError, TypeError, AttributeError):
        raise SettingsError(
            "The --state is not from this source: it must be a list of states of type STREAM"
        ) from None
    if not all(isinstance(state, dict) for state in found.values()):
        raise SettingsError("The --state is not from this source: a stream's must be an object")
    return found


@dataclass(frozen=True)
class ResumePoint:
    """Where a read resumes."""

    bookmarks: dict[str, JSONObject]
    done: Sequence[str]
    """Streams that an earlier attempt of the same sync has read completely."""


def resume_point(
    chosen: Sequence[ConfiguredStream], given: Mapping[str, JSONObject]
) -> ResumePoint:
    """Return where to resume; a full refresh resumes only from an attempt of the same sync.

    Streams listed in an earlier sync are listed again; an interrupted listing is resumed.
    """
    bookmarks: dict[str, JSONObject] = {}
    done = []
    for stream in chosen:
        state = dict(given.get(stream.name, {}))
        refreshed = state.pop(COMPLETE_IN, None)
        if not stream.incremental and _is_listed(state):
            if stream.sync is None or refreshed != stream.sync:
                continue
            done.append(stream.name)
        if state:
            bookmarks[stream.name] = state
    return ResumePoint(bookmarks, done)


def _is_listed(state: Mapping[str, Any]) -> bool:
    """Whether every account has been listed; accounts are the state's partitions."""
    parts = state.get("partitions") or [state]
    return all("replication_key_value" in part and "backfill" not in part for part in parts)
