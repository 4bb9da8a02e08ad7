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
)
from stripe_alloy.api.object_types import BY_NAME, OBJECT_TYPES, ObjectType
from stripe_alloy.api.schemas import api_version
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.connection_settings import check_key
from stripe_alloy.singer_main import metrics_at_debug
from stripe_alloy.singer_plugin import Plugin, run_plugin
from stripe_alloy.stream_maps import sources_of, stream_map_errors
from stripe_alloy.text_files import read_object
from tap_stripe_alloy.access_check import check_access, missing_permission_message
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
    from stripe_alloy.api.errors import AccountAccessError, MissingPermissionError
    from stripe_alloy.connection import Connection
    from tap_stripe_alloy.records.conversion import Record
    from tap_stripe_alloy.scheduler import Batch
    from tap_stripe_alloy.sync import Sync

RECORDS_A_STATE = 1_000
"""Records after which a STATE message is written."""
SECONDS_A_STATE = 5.0
"""Seconds after which one is written at the latest, if records were."""
LOOK_EVERY = 0.2
"""Seconds between looks into the inbox, with `--follow`."""
WALK_EVERY = 5.0
"""Seconds between walks, with `--follow`, where no inbox tells that something came."""
SURE_EVERY = 30.0
"""Seconds between walks where one does: if the receiver is down, its gap is to be read."""
TIDY_EVERY = 3_600.0
"""Seconds between looks at what the inbox may drop, with `--follow`."""
CLOCK_BEHIND = 1_000 * DAY
"""Seconds that our clock may be behind Stripe's."""
TERMINATED = 143
"""The exit code of a run that was told to stop: 128 + SIGTERM."""


class TapStripeAlloy(Plugin, StreamOwner):
    """Streams Stripe's objects: what is there, then what changes and what goes."""

    name = "tap-stripe-alloy"
    package_name = "stripe-alloy"
    config_jsonschema: ClassVar[dict[str, Any]] = DECLARED.to_dict()
    message_writer_class = BufferedWriter
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        # No BATCH: its files would hold deselected fields (meltano/sdk#1117).
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
    """`--follow`: stay up, and go on with what is new."""
    wanted: ClassVar[Sequence[str]] = ()
    """`--select`: the only streams to read."""
    _told_to_stop = False
    _connection: Connection | None = None
    _stated_at = 0.0

    def __init__(self, *, catalog: Any = None, **options: Any) -> None:
        if catalog is not None and not isinstance(catalog, (Catalog, str, PurePath)):
            for name in check_catalog(catalog, BY_NAME):
                self.logger.warning(
                    "The catalog names a stream that this tap has not: %r.%s",
                    name,
                    guess(name, BY_NAME),
                )
        state = options.get("state")
        if not isinstance(state, (dict, str, PurePath, type(None))):
            bookmarks_of(state, BY_NAME)  # refuses it
        self._only_discovers = not options.get("setup_mapper", True)
        super().__init__(catalog=catalog, **options)
        metrics_at_debug(self.metrics_logger)

    @cached_property
    def settings(self) -> Settings:
        """The checked settings."""
        settings = read_settings(self.config)
        settings = replace(settings, expand=propagate_expand(settings.expand))
        check_expand(settings.expand, list(BY_NAME))
        if settings.api_version != api_version():
            self.logger.warning(
                "`api_version` is %s, but the schemas are those of %s: fields may differ",
                settings.api_version,
                api_version(),
            )
        return settings

    @override
    def load_state(self, state: Any) -> None:
        latest = time.time() + CLOCK_BEHIND
        bookmarks, unknown = bookmarks_of(state, BY_NAME, latest=latest)
        for name in unknown:
            self.logger.warning(
                "The state names a stream that this tap has not: %r.%s", name, guess(name, BY_NAME)
            )
        super().load_state({"bookmarks": bookmarks})
        if self._mapper is not None:
            self._settle_keys()

    def _settle_keys(self) -> None:
        """See that streams have the keys which accounts and state ask for, whatever a catalog says.

        An old catalog may name `id` alone, and an old table of one account keeps it.
        """
        changed = False
        for stream in self._own_streams():
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
            if not filter_names(BY_NAME, pattern):  # what it is to hide would be shown
                raise SettingsError(f"`stream_maps` names no stream: {pattern!r}. {_near(pattern)}")
        return found

    @override
    def setup_mapper(self) -> None:
        # The SDK's own copies each stream's schema five times, whether it is read or not.
        with stream_map_errors():
            PluginBase.setup_mapper(self)
            for stream in self._own_streams():
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
        found = [one for one in OBJECT_TYPES if self._only_discovers or self._may_read(one)]
        parents = [one.root for one in found if one.root not in found]
        return [StripeStream(self, object_type) for object_type in (*found, *parents)]

    def _may_read(self, object_type: ObjectType) -> bool:
        """Whether `--select` or the catalog asks for a stream; the schemas of others cost time."""
        if self.wanted:
            return object_type.name in self.wanted
        if self.input_catalog is None:
            return True
        entry = self.input_catalog.get_stream(object_type.name)
        return entry is not None and _is_selected(entry)

    @property
    @override
    def streams(self) -> dict[str, Stream]:
        known = self._streams is not None
        streams = super().streams
        if self.wanted and not known:
            for name, stream in streams.items():
                stream.selected = name in self.wanted
        return streams

    def stream_of(self, object_type: ObjectType) -> StripeStream:
        """Return this tap's stream of an object type."""
        return next(one for one in self._own_streams() if one.object_type is object_type)

    def _own_streams(self) -> list[StripeStream]:
        return cast("list[StripeStream]", list(self.streams.values()))

    def flush(self) -> None:
        """Hand everything written so far to stdout."""
        self.writer.flush()

    @property
    def writer(self) -> BufferedWriter:
        """Where messages go."""
        return cast("BufferedWriter", self.message_writer)

    # Reading

    @override  # type: ignore[misc]
    def sync_all(self) -> None:
        # The SDK's loop reads one stream after the other; ours share a request budget, one
        # walk over the events, and the pages of their parents, so they run side by side.
        selected = [stream for stream in self._own_streams() if stream.selected]
        if not selected:
            raise SettingsError(
                "The catalog selects no stream: set `selected` in the metadata of those to read"
            )
        sync = self._sync(selected, direct=True)
        try:
            for stream in selected:
                stream.announce()
            with Progress(sync.transport, sync.left, self.logger) as progress:
                batches = sync.batches()
                self._write_state()  # whatever was begun is known before its first record is
                self._write_batches(batches, progress)
                if self.following:
                    self._follow(sync, progress)
        except StripeError:
            self._write_state()  # what was written need not be read again
            if not self._told_to_stop:
                raise
        finally:
            sync.close()
            self._disconnect()
        self._end(sync)

    def read_alone(self, stream: StripeStream) -> Iterator[Record]:
        """Read one stream by itself, for the SDK's own loop and its tests."""
        sync = self._sync([stream])
        try:
            for batch in sync.batches():
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
            due = since_state and self._state_is_old()
            if due or since_state >= RECORDS_A_STATE:
                since_state = 0
                self.state_writer.write_state(self.state)
                self._stated_at = time.monotonic()
        if since_state or not self.following or self._state_is_old():
            self._write_state()

    def _state_is_old(self) -> bool:
        return time.monotonic() - self._stated_at >= SECONDS_A_STATE

    def _write_state(self) -> None:
        self._stated_at = time.monotonic()
        self.state_writer.write_state(self.state)
        self.flush()

    def _follow(self, sync: Sync, progress: Progress) -> None:
        """Go on with what is new until told to stop."""
        told = set[str]()
        walked = tidied = time.monotonic()
        while not self._told_to_stop:
            self._tell_refusals({n: e for n, e in sync.refusals.streams.items() if n not in told})
            told.update(sync.refusals.streams)
            self._tell_rejections(
                {n: e for n, e in sync.refusals.accounts.items() if n not in told}
            )
            told.update(sync.refusals.accounts)
            news, now = sync.news(), time.monotonic()
            if news or now - walked >= (WALK_EVERY if news is None else SURE_EVERY):
                self._write_batches(sync.more(), progress)
                walked = time.monotonic()
            if now - tidied >= TIDY_EVERY:
                sync.tidy()
                tidied = now
            time.sleep(LOOK_EVERY)
        self._write_state()

    def _end(self, sync: Sync) -> None:
        if self._told_to_stop and not self.following:
            self.logger.warning("Told to stop: the state says what is left, run again to go on")
            sys.exit(TERMINATED)
        if not self.following:
            self._tell_refusals(sync.refusals.streams)
            self._tell_rejections(sync.refusals.accounts)
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

    def _tell_refusals(self, refusals: Mapping[str, MissingPermissionError]) -> None:
        for name, error in sorted(refusals.items()):
            self.logger.error(
                "Stream %s was not read: %s %s",
                name,
                missing_permission_message(BY_NAME[name], error),
                error,
            )

    def _tell_rejections(self, rejections: Mapping[str, AccountAccessError]) -> None:
        for account, error in sorted(rejections.items()):
            self.logger.error("Account %s was not read: %s", account, error)

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        # Raising here could cut a message in two; the run looks at this between pages.
        if self._told_to_stop:
            sys.exit(TERMINATED)
        self._told_to_stop = True
        # In a thread: this one may hold the locks of what it was interrupted in.
        threading.Thread(target=self._stop_soon, daemon=True).start()

    def _stop_soon(self) -> None:
        self.logger.warning("Told to stop: requests are given up, the state is written")
        if self._connection:
            self._connection.transport.stop()

    # The way to Stripe

    def _sync(self, streams: Sequence[StripeStream], *, direct: bool = False) -> Sync:
        from tap_stripe_alloy.sync import Sync  # noqa: PLC0415 - heavy, and discovery needs none

        return Sync(
            streams,
            settings=self.settings,
            transport=self._connect(),
            stopped=lambda: self._told_to_stop,
            direct=direct,
        )

    def _connect(self) -> StripeClient:
        from stripe_alloy.connection import Connection  # noqa: PLC0415 - discovery needs none

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
        """Print, for each stream, whether the key may read it; whether it may read all."""
        verdicts = self.verdicts()
        for name, verdict in verdicts.items():
            click.echo(f"{name:<22}{verdict or 'ok'}")
        return not any(verdicts.values())

    def verdicts(self) -> Mapping[str, str]:
        """Stream → what keeps the key from reading it, asked of Stripe; empty if nothing does.

        Raises an `AlloyError` on what concerns no single stream, such as a key that is refused.
        """
        sync = self._sync([])
        try:
            account = next(iter(sync.accounts()), None)
            verdicts = {}
            for stream in OBJECT_TYPES:
                if self._told_to_stop:
                    sys.exit(TERMINATED)
                verdicts[stream.name] = check_access(
                    stream, sync.transport, account, clocks=self.settings.clocks
                )
        finally:
            self._disconnect()
        return verdicts

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            if option.name == "discover":
                option.is_eager = False  # it looks at what `--select` names
            if option.name in ("catalog", "state"):
                option.type = click.STRING  # opened by `invoke`, which says in one line why not
            if isinstance(option, click.Option) and option.name == "test":
                option.help = (
                    "Say of each stream whether the key may read it. --test=schema writes schemas."
                )
        command.params.append(
            click.Option(
                ["--follow"],
                is_flag=True,
                help="Stay up and go on with what is new, until SIGTERM or SIGINT.",
            )
        )
        command.params.append(
            click.Option(
                ["--select"],
                metavar="STREAMS",
                is_eager=True,
                expose_value=False,
                callback=cls.cb_select,
                help="Read only these streams, such as customers,invoices; with --discover, select "
                "them in the catalog.",
            )
        )
        return command

    @classmethod
    def cb_select(cls, _ctx: click.Context, _param: click.Option, value: str | None) -> None:
        """Take what `--select` names."""
        cls.wanted = () if value is None else streams_named(value)

    @classmethod
    @override
    def invoke(cls, *, follow: bool = False, **options: Any) -> None:
        cls.following = follow
        if options.get("about"):
            super().invoke(**options)
        cls.print_version(print_fn=cls.logger.info)
        given = {
            name: read_object(options[name], f"--{name}")
            for name in ("state", "catalog")
            if options.get(name) is not None
        }
        config = options["config"]
        cls(config=config.config, parse_env_config=config.parse_env, **given).sync_all()

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
    """Whether a catalog selects a stream, by the SDK's rules."""
    if not entry.metadata:
        return True
    own = MetadataMapping({(): entry.metadata.get((), Metadata())})
    return own.resolve_selection()[()]


def streams_named(text: str) -> list[str]:
    """Read names of streams, separated by commas or blanks; `SettingsError` names unknown ones.

    >>> streams_named("customers, invoices")
    ['customers', 'invoices']
    """
    names = re.split(r"[,\s]+", text.strip())
    for name in names:
        if name not in BY_NAME:
            raise SettingsError(f"--select names no stream: {name!r}. {_near(name)}")
    return names


def _near(name: str) -> str:
    near = get_close_matches(name, BY_NAME, 1)
    return f"Did you mean {near[0]!r}?" if near else f"Streams: {', '.join(BY_NAME)}"


def main() -> None:
    """Run the command."""
    gc.freeze()
    gc.set_threshold(100_000)  # records hold no cycles: looking for them costs a sixth of the time
    run_plugin(TapStripeAlloy)


if __name__ == "__main__":
    main()
