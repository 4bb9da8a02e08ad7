"""tap-stripe-alloy: the Singer tap."""

from __future__ import annotations

import gc
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import filter as filter_names
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click
from singer_sdk.helpers._catalog import get_selected_schema
from singer_sdk.helpers.capabilities import (
    CapabilitiesEnum,
    PluginCapabilities,
    TapCapabilities,
)
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib import Catalog, CatalogEntry, Metadata, MetadataMapping
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from stripe_alloy.api.errors import (
    AccountsRefused,
    SettingsError,
    StripeError,
    UnreadableStreamsError,
    UnusedProductsError,
)
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import BY_NAME, OBJECT_TYPES
from stripe_alloy.api.schemas import api_version
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.connection_settings import check_key
from stripe_alloy.singer_main import metrics_at_debug
from stripe_alloy.singer_plugin import Plugin, run_plugin
from stripe_alloy.stream_maps import sources_of, stream_map_errors
from stripe_alloy.text_files import read_object
from tap_stripe_alloy.access_check import check_access, key_link, missing_permission_message
from tap_stripe_alloy.expansions import propagate_expand
from tap_stripe_alloy.input_checks import bookmarks_of, check_catalog, guess
from tap_stripe_alloy.progress import Progress
from tap_stripe_alloy.records.singer_writer import BufferedWriter
from tap_stripe_alloy.records.stream_schemas import check_expand
from tap_stripe_alloy.row_settings import KEY
from tap_stripe_alloy.settings import DECLARED, Settings, read_settings
from tap_stripe_alloy.stream import StreamOwner, StripeStream

if TYPE_CHECKING:
    from types import FrameType

    from singer_sdk import Stream

    from stripe_alloy.api.client import StripeClient
    from stripe_alloy.api.errors import (
        AccountAccessError,
        InvalidRequestError,
        MissingPermissionError,
    )
    from stripe_alloy.connection import Connection
    from tap_stripe_alloy.records.conversion import Record
    from tap_stripe_alloy.scheduler import Batch
    from tap_stripe_alloy.sync import Sync

STATE_EVERY_RECORDS = 1_000
"""Write a STATE message after this many records."""
STATE_EVERY_SECONDS = 5.0
"""Write a STATE message at least this often (seconds) while records are written."""
INBOX_POLL_INTERVAL = 0.2
"""Seconds between polls of the inbox, with `--follow`."""
EVENTS_POLL_INTERVAL = 5.0
"""Seconds between polls of `/v1/events`, with `--follow`, when no inbox is used."""
GAP_CHECK_INTERVAL = 30.0
"""Seconds between polls of `/v1/events` when an inbox is used: it closes the gap if the receiver
is down."""
PRUNE_INTERVAL = 3_600.0
"""Seconds between prunes of the inbox, with `--follow`."""
MAX_CLOCK_LAG = 1_000 * DAY
"""Seconds that the local clock may be behind Stripe's."""
TERMINATED = 143
"""Exit code of a run that was stopped by a signal: 128 + SIGTERM."""


class TapStripeAlloy(Plugin, StreamOwner):
    """Backfills Stripe objects, then follows their changes and deletions."""

    name = "tap-stripe-alloy"
    package_name = "stripe-alloy"
    config_jsonschema: ClassVar[dict[str, Any]] = DECLARED.to_dict()
    message_writer_class = BufferedWriter
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        # No BATCH: its files would contain deselected fields (meltano/sdk#1117).
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]
    following: ClassVar[bool] = False
    """`--follow`: keep running and sync new changes."""
    selection: ClassVar[Sequence[str]] = ()
    """`--select`: names of the streams to read; empty for those that the catalog selects."""
    strict: ClassVar[bool] = False
    """`--strict`: fail if a stream belongs to a product that the account does not use."""
    linking: ClassVar[bool] = False
    """`--key-link`: print the link of Stripe's form for a restricted key."""
    _stop_requested = False
    _connection: Connection | None = None
    _state_written_at = 0.0

    def __init__(self, *, catalog: Any = None, **options: Any) -> None:
        if catalog is not None and not isinstance(catalog, (Catalog, str, PurePath)):
            for name in check_catalog(catalog, BY_NAME):
                self.logger.warning(
                    "The catalog contains a stream that this tap does not have: %r.%s",
                    name,
                    guess(name, BY_NAME),
                )
        state = options.get("state")
        if not isinstance(state, (dict, str, PurePath, type(None))):
            bookmarks_of(state, BY_NAME)  # raises `SettingsError`
        self._only_discovers = not options.get("setup_mapper", True)
        super().__init__(catalog=catalog, **options)
        metrics_at_debug(self.metrics_logger)

    @cached_property
    def settings(self) -> Settings:
        """Return the validated settings; raises `SettingsError`."""
        settings = read_settings(self.config)
        settings = replace(settings, expand=propagate_expand(settings.expand))
        check_expand(settings.expand, list(BY_NAME))
        if settings.api_version != api_version():
            self.logger.warning(
                "`api_version` is %s, but the schemas were generated from %s: fields may differ",
                settings.api_version,
                api_version(),
            )
        return settings

    @override
    def load_state(self, state: Any) -> None:
        latest = time.time() + MAX_CLOCK_LAG
        bookmarks, unknown = bookmarks_of(state, BY_NAME, latest=latest)
        for name in unknown:
            self.logger.warning(
                "The state contains a stream that this tap does not have: %r.%s",
                name,
                guess(name, BY_NAME),
            )
        super().load_state({"bookmarks": bookmarks})
        if self._mapper is not None:
            self._set_primary_keys()

    def _set_primary_keys(self) -> None:
        """Set the primary keys that accounts and state require; they override the catalog.

        An older catalog may have the key `id` alone. A table with rows of one account keeps it.
        """
        changed = False
        for stream in self._stripe_streams():
            key = stream.key_given(self.state.get("bookmarks", {}).get(stream.name, {}))
            if set(key) <= set(stream.primary_keys) and (
                len(key) > 1 or set(stream.primary_keys) != set(KEY)
            ):
                continue
            changed = True
            stream.identify_by(key)
            entry = self.input_catalog and self.input_catalog.get_stream(stream.name)
            if entry:
                entry.key_properties = key
        if changed:
            self.setup_mapper()

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        found = super()._validate_config(raise_errors=raise_errors)
        for pattern in sources_of(self._config.get("stream_maps") or {}):
            if not filter_names(BY_NAME, pattern):  # its fields would be emitted unchanged
                raise SettingsError(
                    f"`stream_maps` matches no stream: {pattern!r}. {_suggestion(pattern)}"
                )
        return found

    @override
    def setup_mapper(self) -> None:
        # The SDK's own copies each stream's schema five times, whether it is read or not.
        with stream_map_errors():
            PluginBase.setup_mapper(self)
            for stream in self._stripe_streams():
                if stream.selected:
                    self.mapper.register_raw_stream_schema(
                        stream.name, self._schema_of(stream), stream.primary_keys
                    )

    def _schema_of(self, stream: StripeStream) -> dict[str, Any]:
        """Return what is selected of a stream's schema; a catalog that was given has its own."""
        entry = self.input_catalog and self.input_catalog.get_stream(stream.name)
        schema = entry.schema.to_dict() if entry else stream.schema
        if stream.deselected:
            schema = get_selected_schema(stream.name, schema, stream.mask)
        return schema

    @override
    def discover_streams(self) -> Sequence[StripeStream]:
        found = [one for one in OBJECT_TYPES if self._only_discovers or self._is_requested(one)]
        parents = [one.root for one in found if one.root not in found]
        return [StripeStream(self, object_type) for object_type in (*found, *parents)]

    def _is_requested(self, object_type: ObjectType) -> bool:
        """Whether `--select` or the catalog selects a stream: loading other schemas takes time."""
        if self.selection:
            return object_type.name in self.selection
        if self.input_catalog is None:
            return object_type.selected_by_default
        entry = self.input_catalog.get_stream(object_type.name)
        return entry is not None and _is_selected(entry)

    @property
    @override
    def streams(self) -> dict[str, Stream]:
        known = self._streams is not None
        streams = super().streams
        if self.selection and not known:
            for name, stream in streams.items():
                stream.selected = name in self.selection
        return streams

    def stream_of(self, object_type: ObjectType) -> StripeStream:
        """Return this tap's stream of an object type."""
        return next(one for one in self._stripe_streams() if one.object_type is object_type)

    def _stripe_streams(self) -> list[StripeStream]:
        return cast("list[StripeStream]", list(self.streams.values()))

    def flush(self) -> None:
        """Flush all messages written so far to stdout."""
        self.writer.flush()

    @property
    def writer(self) -> BufferedWriter:
        """Return the writer of Singer messages."""
        return cast("BufferedWriter", self.message_writer)

    # Reading

    @override  # type: ignore[misc]
    def sync_all(self) -> None:
        # The SDK's loop reads one stream after the other. Here streams run concurrently: they share
        # the rate limits, one pass over the events, and the pages of their parent streams.
        selected = [stream for stream in self._stripe_streams() if stream.selected]
        if not selected:
            raise SettingsError(
                "No stream is selected in the catalog: set `selected` in the metadata of the "
                "streams to read"
            )
        sync = self._sync(selected, direct=True)
        try:
            for stream in selected:
                stream.send_schema()
            with Progress(sync.transport, sync.left, self.logger) as progress:
                batches = sync.first_pass()
                self._write_state()  # record first-attempt times before the first record
                self._write_batches(batches, progress)
                if self.following:
                    self._follow(sync, progress)
        except StripeError:
            self._write_state()  # so that the next run does not repeat what was written
            if not self._stop_requested:
                raise
        finally:
            sync.close()
            self._disconnect()
        self._finish(sync)

    def read_alone(self, stream: StripeStream) -> Iterator[Record]:
        """Yield the records of one stream, for the SDK's sync loop and its tests."""
        sync = self._sync([stream])
        try:
            for batch in sync.first_pass():
                for _, records in batch.parts:
                    yield from records
                batch.written()
        finally:
            sync.close()
            self._disconnect()
        for error in (*sync.refusals.accounts.values(), *sync.refusals.streams.values()):
            raise error

    def _write_batches(self, batches: Iterable[Batch], progress: Progress) -> None:
        since_state = 0
        for batch in batches:
            for output, records in batch.parts:
                if records:
                    output.stream.write(records)
                    progress.wrote(output.stream.name, len(records))
                since_state += len(records)
            batch.written()
            progress.tick()
            due = since_state and self._state_is_due()
            if due or since_state >= STATE_EVERY_RECORDS:
                since_state = 0
                self.state_writer.write_state(self.state)
                self._state_written_at = time.monotonic()
        if since_state or not self.following or self._state_is_due():
            self._write_state()

    def _state_is_due(self) -> bool:
        return time.monotonic() - self._state_written_at >= STATE_EVERY_SECONDS

    def _write_state(self) -> None:
        self._state_written_at = time.monotonic()
        self.state_writer.write_state(self.state)
        self.flush()

    def _follow(self, sync: Sync, progress: Progress) -> None:
        """Sync new changes until a stop signal arrives."""
        logged = set[str]()
        read_at = pruned_at = time.monotonic()
        while not self._stop_requested:
            self._log_refusals({n: e for n, e in sync.refusals.streams.items() if n not in logged})
            logged.update(sync.refusals.streams)
            self._log_rejections(
                {n: e for n, e in sync.refusals.accounts.items() if n not in logged}
            )
            logged.update(sync.refusals.accounts)
            has_news, now = sync.has_news(), time.monotonic()
            if has_news or now - read_at >= (
                EVENTS_POLL_INTERVAL if has_news is None else GAP_CHECK_INTERVAL
            ):
                self._write_batches(sync.next_pass(), progress)
                read_at = time.monotonic()
            if now - pruned_at >= PRUNE_INTERVAL:
                sync.prune_inbox()
                pruned_at = now
            time.sleep(INBOX_POLL_INTERVAL)
        self._write_state()

    def _finish(self, sync: Sync) -> None:
        if self._stop_requested and not self.following:
            self.logger.warning("Stopped by signal. Run again to resume from the last state.")
            sys.exit(TERMINATED)
        if not self.following:
            self._log_refusals(sync.refusals.streams)
            self._log_rejections(sync.refusals.accounts)
            self._log_unused_products(sync.refusals.products)
        rejections = sync.refusals.accounts
        if rejections:
            only = next(iter(rejections.values()))
            raise AccountsRefused(rejections) if sync.reads_several_accounts else only
        if sync.refusals.streams:
            raise UnreadableStreamsError(
                {
                    name: missing_permission_message(BY_NAME[name], error)
                    for name, error in sync.refusals.streams.items()
                }
            )
        if sync.refusals.products and self.strict:
            raise UnusedProductsError({name for name, _ in sync.refusals.products})

    def _log_refusals(self, refusals: Mapping[str, MissingPermissionError]) -> None:
        for name, error in sorted(refusals.items()):
            self.logger.error(
                "Stream %s was not read: %s %s",
                name,
                missing_permission_message(BY_NAME[name], error),
                error,
            )

    def _log_unused_products(
        self, refusals: Mapping[tuple[str, str | None], InvalidRequestError]
    ) -> None:
        for (name, account), error in refusals.items():
            of = f" of account {account}" if account else ""
            self.logger.warning(
                "Stream %s%s was not read: the account does not use this product. Stripe says: %s",
                name,
                of,
                error.failure,
            )

    def _log_rejections(self, rejections: Mapping[str, AccountAccessError]) -> None:
        for account, error in sorted(rejections.items()):
            self.logger.error("Account %s was not read: %s", account, error)

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        # Raising here could truncate a message. The run checks this flag between pages.
        if self._stop_requested:
            sys.exit(TERMINATED)
        self._stop_requested = True
        # In a thread: this one may hold locks of the code that the signal interrupted.
        threading.Thread(target=self._stop_soon, daemon=True).start()

    def _stop_soon(self) -> None:
        self.logger.warning("Received a stop signal: canceling requests and writing the state")
        if self._connection:
            self._connection.transport.stop()

    # Connection to Stripe

    def _sync(self, streams: Sequence[StripeStream], *, direct: bool = False) -> Sync:
        from tap_stripe_alloy.sync import Sync  # noqa: PLC0415 - slow to import, and discovery does not need it

        return Sync(
            streams,
            settings=self.settings,
            transport=self._connect(),
            stopped=lambda: self._stop_requested,
            direct=direct,
        )

    def _connect(self) -> StripeClient:
        from stripe_alloy.connection import Connection  # noqa: PLC0415 - discovery does not need it

        settings = self.settings
        check_key(settings)
        self._connection = Connection(
            api_key=settings.api_key,
            api_url=settings.api_url,
            api_version=settings.api_version,
            max_requests_per_second=settings.max_requests_per_second,
            max_concurrency=settings.max_concurrency,
        )
        return self._connection.transport

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()

    # `--test`

    def check(self) -> bool:
        """Print for each stream whether the key can read it; return whether it can read all."""
        problems = self.verdicts()
        width = max(map(len, problems), default=0) + 2
        for name, problem in problems.items():
            click.echo(f"{name:<{width}}{problem or 'ok'}")
        if self.linking:
            requested = [stream for stream in OBJECT_TYPES if self._is_requested(stream)]
            link = key_link(requested, clocks=self.settings.clocks)
            click.echo(f"\nStripe's form for a key with just these permissions:\n{link}")
        return not any(problems.values())

    def verdicts(self) -> Mapping[str, str]:
        """Request one object of each stream; return stream → why the key cannot read it, or "".

        Raises an `AlloyError` that is not about a single stream, such as a rejected key.
        """
        sync = self._sync([])
        try:
            account = next(iter(sync.accounts()), None)
            found = {}
            for stream in filter(self._is_requested, OBJECT_TYPES):
                if self._stop_requested:
                    sys.exit(TERMINATED)
                found[stream.name] = check_access(
                    stream, sync.transport, account, clocks=self.settings.clocks
                )
        finally:
            self._disconnect()
        return found

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            if option.name == "discover":
                option.is_eager = False  # it needs the value of `--select`
            if option.name in ("catalog", "state"):
                option.type = click.STRING  # read by `invoke`, which reports errors in one line
            if isinstance(option, click.Option) and option.name == "test":
                option.help = (
                    "Check which streams the key can read. --test=schema writes the schemas."
                )
        command.params.append(
            click.Option(
                ["--follow"],
                is_flag=True,
                help="Keep running and sync new changes, until SIGTERM or SIGINT.",
            )
        )
        command.params.append(
            click.Option(
                ["--strict"],
                is_flag=True,
                help="Fail if a stream belongs to a product that the account does not use, such as "
                "Issuing.",
            )
        )
        command.params.append(
            click.Option(
                ["--key-link"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=cls.cb_key_link,
                help="With --test: also print the link of Stripe's form for a restricted key with "
                "the permissions of the selected streams.",
            )
        )
        command.params.append(
            click.Option(
                ["--select"],
                metavar="STREAMS",
                is_eager=True,
                expose_value=False,
                callback=cls.cb_select,
                help="Read only these streams, such as customers,invoices. With --discover, select "
                "them in the catalog.",
            )
        )
        return command

    @classmethod
    def cb_select(cls, _ctx: click.Context, _param: click.Option, value: str | None) -> None:
        """Set `selection` from the value of `--select`."""
        cls.selection = () if value is None else streams_named(value)

    @classmethod
    def cb_key_link(cls, _ctx: click.Context, _param: click.Option, value: bool) -> None:
        """Set `linking` from `--key-link`."""
        cls.linking = value

    @classmethod
    @override
    def invoke(cls, *, follow: bool = False, strict: bool = False, **options: Any) -> None:
        cls.following, cls.strict = follow, strict
        if options.get("about"):
            super().invoke(**options)
        cls.print_version(print_fn=cls.logger.info)
        documents = {
            name: read_object(options[name], f"--{name}")
            for name in ("state", "catalog")
            if options.get(name) is not None
        }
        config = options["config"]
        cls(config=config.config, parse_env_config=config.parse_env, **documents).sync_all()

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        if value != CliTestOptionValue.All.value:
            super().cb_test(ctx, param, value)
            return
        config = ctx.params["config"]
        tap = cls(config=config.config, parse_env_config=config.parse_env)
        ctx.exit(0 if tap.check() else 1)


def _is_selected(entry: CatalogEntry) -> bool:
    """Whether a catalog entry is selected, by the SDK's rules."""
    if not entry.metadata:
        return True
    stream_level = MetadataMapping({(): entry.metadata.get((), Metadata())})
    return stream_level.resolve_selection()[()]


def streams_named(text: str) -> list[str]:
    """Return the stream names in a text, separated by commas or spaces.

    Raises `SettingsError` for an unknown name.

    >>> streams_named("customers, invoices")
    ['customers', 'invoices']
    """
    names = re.split(r"[,\s]+", text.strip())
    for name in names:
        if name not in BY_NAME:
            raise SettingsError(f"--select: there is no stream {name!r}. {_suggestion(name)}")
    return names


def _suggestion(name: str) -> str:
    near = get_close_matches(name, BY_NAME, 1)
    return f"Did you mean {near[0]!r}?" if near else f"Streams: {', '.join(BY_NAME)}"


def main() -> None:
    """Run the `tap-stripe-alloy` command."""
    gc.freeze()
    gc.set_threshold(100_000)  # records contain no cycles: collection takes a sixth of the time
    run_plugin(TapStripeAlloy)


if __name__ == "__main__":
    main()
