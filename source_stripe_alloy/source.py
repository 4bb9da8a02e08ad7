"""The commands of `source-stripe-alloy`: spec, check, discover, read."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from airbyte_protocol_dataclasses.models import (
    AirbyteCatalog,
    AirbyteConnectionStatus,
    AirbyteMessage,
    Status,
    Type,
)

from source_stripe_alloy.airbyte_writer import AirbyteLog, AirbyteWriter
from source_stripe_alloy.protocol import (
    OMITTED_SETTINGS,
    bookmarks_in,
    parse_catalog,
    resume_point,
    select,
    specification,
    stream_of,
)
from source_stripe_alloy.stream_status import StreamStatusTracker
from stripe_alloy.api.errors import AlloyError, UnreadableStreamsError
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.singer_main import check_output, log_discreetly, run, said_of
from stripe_alloy.text_files import read_json, read_object
from tap_stripe_alloy.tap import TapStripeAlloy

_CONFIG = click.option("--config", required=True, help="The source's configuration.")


@click.group()
@click.version_option(package_name="stripe-alloy", prog_name="source-stripe-alloy")
def source() -> None:
    """Stripe as an Airbyte source."""


def main() -> None:
    """Run the command."""
    run(_main, logging.getLogger(__name__))


def _main() -> object:
    check_output()
    return source.main(standalone_mode=False)


@source.command()
def spec() -> None:
    """Print the settings."""
    with _output() as writer:
        found = specification(TapStripeAlloy.config_jsonschema)
        writer.send([AirbyteMessage(Type.SPEC, spec=found)])


@source.command()
@_CONFIG
def check(config: str) -> None:
    """Print whether the key can read any stream; missing permissions are logged."""
    with _output() as writer:
        try:
            status = _status_of(_tap(config, writer).verdicts())
        except Exception as error:  # noqa: BLE001 - the form shows any error
            status = AirbyteConnectionStatus(Status.FAILED, said_of(error))
        writer.send([AirbyteMessage(Type.CONNECTION_STATUS, connectionStatus=status)])


@source.command()
@_CONFIG
def discover(config: str) -> None:
    """Print the streams."""
    with _output() as writer:
        entries = _tap(config, writer, setup_mapper=False).catalog_dict["streams"]
        catalog = AirbyteCatalog([stream_of(entry) for entry in entries])
        writer.send([AirbyteMessage(Type.CATALOG, catalog=catalog)])


@source.command()
@_CONFIG
@click.option("--catalog", required=True, help="The configured catalog.")
@click.option("--state", help="The states of the last read.")
def read(config: str, catalog: str, state: str | None) -> None:
    """Read the streams of a catalog, starting from a state."""
    with _output() as writer:
        chosen = parse_catalog(read_object(catalog, "--catalog"), BY_NAME)
        start = resume_point(chosen, bookmarks_in(read_json(state, "--state") if state else []))
        tracker = writer.tracker = StreamStatusTracker(chosen)
        discovered = _tap(config, writer, setup_mapper=False).catalog_dict
        left = [stream for stream in chosen if stream.name not in start.done]
        tap = _tap(
            config,
            writer,
            catalog=select(discovered, left),
            state={"bookmarks": start.bookmarks},
        )
        writer.send(tracker.started())
        refused: Mapping[str, str] = {}
        try:
            if left:
                tap.sync_all()
        except UnreadableStreamsError as error:
            refused = error.lacking
        writer.send(tracker.ended(tap.state.get("bookmarks", {}), but=refused))
        if refused:
            sys.exit(1)


@contextmanager
def _output() -> Iterator[AirbyteWriter]:
    """Open the writer; an error becomes a trace, and each unfinished stream INCOMPLETE."""
    writer = AirbyteWriter(StreamStatusTracker())
    log = AirbyteLog(writer)
    log.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[log], force=True)
    log_discreetly()
    logging.getLogger("singer_sdk.metrics").setLevel(logging.WARNING)  # Airbyte counts itself
    try:
        yield writer
    except Exception as error:  # noqa: BLE001 - a traceback may show a record
        writer.fail(error if isinstance(error, AlloyError) else AlloyError(said_of(error)))
        sys.exit(1)
    except SystemExit:  # stopped by a signal
        writer.send(writer.tracker.interrupted())
        raise


def _tap(file: str, writer: AirbyteWriter, **given: Any) -> TapStripeAlloy:
    config = read_object(file, "--config") | dict.fromkeys(OMITTED_SETTINGS, False)
    return TapStripeAlloy(config=config, message_writer=writer, **given)


def _status_of(problems: Mapping[str, str]) -> AirbyteConnectionStatus:
    """Return success if any stream is readable: the selected streams are unknown here."""
    for name, problem in problems.items():
        if problem:
            logging.getLogger(__name__).warning("Stream %s cannot be read: %s", name, problem)
    if not all(problems.values()):
        return AirbyteConnectionStatus(Status.SUCCEEDED)
    return AirbyteConnectionStatus(
        Status.FAILED,
        f"The key cannot read any stream. The first one: {next(iter(problems.values()))}",
    )
