"""Random histories of an account, and a destination to hold against what Stripe has.

By hand: `./run python -m tests.tap.histories --histories 200 --seed 0 --processes 2`.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import stripe

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.object_types import BY_NAME, OBJECT_TYPES
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.records.conversion import Recorder
from tap_stripe_alloy.records.stream_schemas import stream_schema
from tests.conftest import Output, config_of, read, tap_with

Row = dict[str, Any]
Step = Callable[["History"], object]
LISTED_INSIDE = 10
"""Entries of a list inside an object."""
COMPARED = [stream.name for stream in DEFAULT_TYPES if stream.name != "events"]
KINDS = {stream.name: stream.object_name for stream in OBJECT_TYPES}


def but_for_what_no_list_tells(found: dict[str, Any]) -> dict[str, Any]:
    """Differences that a pause of more than 30 days explains: no list tells what it deleted."""
    return {
        stream: ids
        for stream, ids in found.items()
        if BY_NAME[stream].is_complete_history or ids["missing"] or ids["other"]
    }


class Destination:
    """Holds the newest row of each id, as a target does that knows tombstones and versions."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], tuple[Row, int | None]] = {}
        self.keys: dict[str, list[str]] = {}
        self.state: dict[str, Any] = {}
        self.records = 0

    def take(self, messages: Iterable[dict[str, Any]]) -> None:
        """Take messages as they come; a run that is cut short just ends."""
        for message in messages:
            if message["type"] == "RECORD":
                stream, record = message["stream"], message["record"]
                key = stream, *(record[name] for name in self.keys[stream])
                self.rows[key] = message["record"], message.get("version")
                self.records += 1
            elif message["type"] == "SCHEMA":
                self.keys[message["stream"]] = message["key_properties"]
            elif message["type"] == "ACTIVATE_VERSION":
                stream, version = message["stream"], message["version"]
                self.rows = {
                    key: row
                    for key, row in self.rows.items()
                    if key[0] != stream or row[1] == version
                }
            elif message["type"] == "STATE":
                self.state = message["value"]

    def of(self, stream: str) -> dict[str, Row]:
        """The rows of a stream that are not deleted."""
        return {
            key[-1]: row
            for key, (row, _) in self.rows.items()
            if key[0] == stream and not row["deleted"]
        }


def assert_the_same_are_there(emulator: Emulator, there: Callable[[str], set[str]]) -> None:
    """Compare the ids that Stripe has with those that are `there` and not deleted."""
    kept = set(emulator.ids("payment_method", everything=True))
    for name in COMPARED:
        truth = set(emulator.ids(KINDS[name]))
        if name == "payment_methods":  # a detached one is there, though no list has it
            assert truth <= there(name) <= kept
        else:
            assert there(name) == truth, name


def expected(
    emulator: Emulator, stream: str, accounts: Iterable[str], *, everything: bool = False
) -> dict[str, Row]:
    """What the rows of a stream are to be, but for `updated`, which only events tell.

    With `everything` those on test clocks are among them.
    """
    found = {}
    for account in accounts:
        recorder = _recorder(stream).of(account)
        for source in emulator.objects(KINDS[stream], account, everything=everything):
            complete(source, emulator, account)
            found[source["id"]] = recorder.record(source, 0)
    return found


@cache
def _recorder(stream: str) -> Recorder:
    return Recorder(stream_schema(stream, expand=[], unix=False), account_id=None, unix=False)


CHILDREN = {"invoice": ("lines", "line_item"), "subscription": ("items", "subscription_item")}


def complete(source: Row, emulator: Emulator, account: str) -> None:
    """Fill up the list inside an object, which Stripe's own lists cut at ten entries."""
    field, kind = CHILDREN.get(source["object"], ("", ""))
    if source.get(field, {}).get("has_more"):
        children = emulator.objects(kind, account)
        inside = [child for child in children if child[source["object"]] == source["id"]]
        source[field].update(data=inside, has_more=False)


def differences(
    destination: Destination,
    emulator: Emulator,
    accounts: Iterable[str],
    streams: Iterable[str] = COMPARED,
) -> dict[str, Any]:
    """Stream → ids that are missing, too many, or differ; empty if the destination is Stripe's."""
    found = {}
    for stream in streams:
        rows = destination.of(stream)
        truth = expected(emulator, stream, list(accounts))
        if stream == "payment_methods":  # a detached one is still there, though no list has it
            rows = {key: row for key, row in rows.items() if key in truth or row["customer"]}
        both = rows.keys() & truth.keys()
        wrong = {key for key in both if comparable(rows[key]) != comparable(truth[key])}
        if rows.keys() ^ truth.keys() or wrong:
            found[stream] = {
                "missing": sorted(truth.keys() - rows.keys()),
                "too many": sorted(rows.keys() - truth.keys()),
                "other": sorted(wrong),
            }
    return found


def comparable(row: Row) -> Row:
    """Without what no event of the object itself tells, and with nested lists in any order."""
    return {key: _comparable(value) for key, value in row.items() if key != "updated"}


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return [_comparable(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.get("object") in ("price", "plan"):
        return value["id"]  # its own stream has its edits, the holders' events do not tell of them
    if value.get("object") == "list":
        value = {**value, "data": sorted(value["data"], key=lambda entry: str(entry["id"]))}
    return {key: _comparable(inner) for key, inner in value.items()}


class History:
    """Things that happen to an account, by the official client."""

    def __init__(self, emulator: Emulator, rng: random.Random, account: str | None) -> None:
        self.emulator, self.rng, self.account = emulator, rng, account
        self.api: Any = stripe.StripeClient(
            emulator.api_key,
            base_addresses={"api": emulator.url},
            stripe_account=None if account == emulator.account_id else account,
        ).v1
        self.number = 0

    def happen(self) -> None:
        """One thing; what the account refuses did not happen."""
        self.number += 1
        step = self.rng.choice(STEPS)
        with suppress(stripe.InvalidRequestError, IndexError, stripe.CardError):
            step(self)

    def some(self, kind: str, **fields: Any) -> Any:
        """A random object of a kind; IndexError if there is none."""
        objects = self.objects(kind)
        return self.rng.choice(
            [o for o in objects if all(o.get(key) == value for key, value in fields.items())]
        )

    def objects(self, kind: str) -> list[Row]:
        """Those that things happen to."""
        return self.emulator.objects(kind, self.account)

    def note(self) -> dict[str, Any]:
        return {"metadata": {"note": str(self.number)}}


def _add_line(history: History) -> None:
    invoice = history.some("invoice", status="draft")
    history.api.invoice_items.create(
        {
            "customer": invoice["customer"],
            "invoice": invoice["id"],
            "amount": 500,
            "currency": "usd",
        }
    )


def _remove_line(history: History) -> None:
    invoice = history.some("invoice", status="draft")
    items = history.api.invoice_items.list({"invoice": invoice["id"]}).data
    history.api.invoice_items.delete(history.rng.choice(items).id)


def _draft(history: History) -> None:
    customer = history.some("customer")["id"]
    history.api.invoices.create({"customer": customer, "currency": "usd"})
    _add_line(history)


def _add_item(history: History) -> None:
    """An eleventh would be named by no event once it is removed: docs/changes.md."""
    subscription = history.some("subscription", status="active")
    if len(subscription["items"]["data"]) >= LISTED_INSIDE:
        return
    price = history.some("price", type="recurring", active=True, currency=subscription["currency"])
    history.api.subscription_items.create(
        {"subscription": subscription["id"], "price": price["id"]}
    )


def _remove_item(history: History) -> None:
    subscription = history.some("subscription", status="active")
    if not subscription["items"]["has_more"]:
        item = history.rng.choice(subscription["items"]["data"])
        history.api.subscription_items.delete(item["id"])


def _pay(history: History) -> None:
    customer = history.some("customer")["id"]
    method = history.api.payment_methods.attach("pm_card_visa", {"customer": customer})
    history.api.payment_intents.create(
        {
            "amount": 1_000 + history.number,
            "currency": "usd",
            "customer": customer,
            "payment_method": method.id,
            "confirm": True,
            "off_session": True,
        }
    )


def _refund(history: History) -> None:
    charge = history.some("charge", paid=True, refunded=False)
    history.api.refunds.create({"charge": charge["id"], "amount": 1})


def _detach(history: History) -> None:
    history.api.payment_methods.detach(history.some("payment_method")["id"])


STEPS: list[Step] = [
    lambda h: h.api.customers.create({"name": f"Customer {h.number}"}),
    lambda h: h.api.customers.update(h.some("customer")["id"], h.note()),
    lambda h: h.api.customers.delete(h.some("customer")["id"]),
    lambda h: h.api.products.create({"name": f"Product {h.number}"}),
    lambda h: h.api.products.update(h.some("product")["id"], h.note()),
    lambda h: h.api.products.delete(h.some("product")["id"]),
    lambda h: h.api.prices.update(h.some("price")["id"], {"nickname": str(h.number)}),
    lambda h: h.emulator.delete("price", h.some("price")["id"], h.account),
    lambda h: h.api.subscriptions.update(h.some("subscription")["id"], h.note()),
    lambda h: h.api.subscriptions.cancel(h.some("subscription", status="active")["id"]),
    lambda h: h.api.invoices.update(h.some("invoice")["id"], h.note()),
    lambda h: h.api.invoices.delete(h.some("invoice", status="draft")["id"]),
    lambda h: h.api.invoices.finalize_invoice(h.some("invoice", status="draft")["id"]),
    _add_item,
    _remove_item,
    _draft,
    _add_line,
    _remove_line,
    _pay,
    _refund,
    _detach,
]


def cut(output: Output, rng: random.Random) -> list[dict[str, Any]]:
    """What came through of a run that was killed at some moment."""
    return output.messages[: rng.randrange(len(output.messages) + 1)]


# ---------------------------------------------------------------------- settings that change

DAY = 86_400
PAUSES = {"s": 1, "m": 60, "h": 3_600, "d": DAY, "l": 45 * DAY}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"expand": {"charges": ["balance_transaction"], "invoices": ["customer"]}},
    {"expand": {"subscription_items": ["discounts"]}},
    {"timestamps": "unix"},
    {"start_date": "2026-06-01T00:00:00Z"},
    {"start_date": "2025-12-01T00:00:00Z"},
    {"stream_maps": {"customers": {"note": "'mapped'"}}},
    {"flattening_enabled": True, "flattening_max_depth": 1},
    {"include_test_clocks": True},
    {"left_out": [("charges", "description"), ("invoices", "lines")]},
]
"""What a run may be told otherwise than the last; `left_out` are deselected properties."""


def trouble(emulator: Emulator, rng: random.Random) -> None:
    """Let answers fail, and events show late."""
    for kind in rng.sample(["status", "cut_after", "truncate", "garbage", "late_events"], 2):
        if kind == "late_events":
            emulator.faults.add(kind, seconds=90)
        else:
            emulator.faults.add(kind, "/v1/", times=2, after=rng.randrange(20))


class ChangingSettings:
    """A destination whose pipeline is configured otherwise again and again."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.emulator = Emulator(seed=seed % 5, customers=3, accounts=1, live=1)
        self.destination = Destination()
        self.streams = self.rng.sample(COMPARED, self.rng.randint(2, 6))
        self.story: list[str] = []
        self.not_read_since_long = False
        """Whether a stream of an account was not read to its end since a long pause."""

    def run(self, runs: int) -> dict[str, Any]:
        """Let things happen; return what differs in the end."""
        with self.emulator as emulator:
            accounts = [emulator.account_id, *emulator.account_ids]
            histories = [History(emulator, self.rng, account) for account in accounts]
            for _ in range(runs):
                for _ in range(self.rng.randrange(6)):
                    self.rng.choice(histories).happen()
                    emulator.clock_advance(self.rng.choice([0, 0, 1, 30]))
                self._one_run(accounts)
            emulator.clock_advance(120)
            for _ in range(4):  # an account may be listed again only once another one was
                last = self._read({}, accounts, self.streams)
            if last.records:
                return {"not quiet": sorted(last.records)}
            found = differences(self.destination, emulator, accounts, self.streams)
            return self._wrong(found)

    def _wrong(self, found: dict[str, Any]) -> dict[str, Any]:
        """What is not as it should be."""
        paused = any(step.startswith("l ") for step in self.story)
        return but_for_what_no_list_tells(found) if paused else found

    def _one_run(self, accounts: list[str]) -> None:
        rng = self.rng
        pause = rng.choice("smhdl" if rng.random() < 0.5 else "smh")
        settings = rng.choice(SETTINGS)
        self.not_read_since_long |= pause == "l"
        if self.not_read_since_long and "start_date" in settings:
            settings = {}  # with it, what is deleted in a long pause stays, as the log says
        named = [account for account in accounts if rng.random() < 0.8] or accounts
        self.emulator.clock_advance(PAUSES[pause])
        streams = self.streams
        if rng.random() < 0.3:
            streams = rng.sample(streams, rng.randint(1, len(streams)))
        self.story.append(f"{pause} {settings} {named} {streams}")
        if rng.random() < 0.2:
            self._refused_with_a_live_key(named)
        trouble(self.emulator, rng)
        whole = rng.random() < 0.5
        self._read(settings, named, streams, whole=whole)
        if whole and len(named) == len(accounts) and len(streams) == len(self.streams):
            self.not_read_since_long = False
        self.emulator.faults.clear()

    def _read(
        self,
        settings: Mapping[str, Any],
        accounts: list[str],
        streams: list[str],
        *,
        whole: bool = True,
    ) -> Output:
        given = {name: value for name, value in settings.items() if name != "left_out"}
        config = config_of(self.emulator, account_ids=accounts, **given)
        catalog = None
        if "left_out" in settings:
            catalog = tap_with(streams)(config=config).catalog_dict
            for stream, name in settings["left_out"]:
                if stream in streams:
                    deselect(catalog, stream, name)
        state = self.destination.state
        output = read(config, state=state, catalog=catalog, select=streams)
        self.destination.take(output.messages if whole else cut(output, self.rng))
        return output

    def _refused_with_a_live_key(self, accounts: list[str]) -> None:
        if not self.destination.state.get("bookmarks"):
            return
        config = config_of(self.emulator, api_key=self.emulator.live_key, account_ids=accounts)
        try:
            read(config, state=self.destination.state, select=self.streams[:1])
        except SettingsError:
            return
        raise AssertionError("a live key went on with a state of test mode")


def deselect(catalog: dict[str, Any], stream: str, *path: str) -> dict[str, Any]:
    """Deselect a property of a stream."""
    breadcrumb = [part for name in path for part in ("properties", name)]
    entry = next(entry for entry in catalog["streams"] if entry["tap_stream_id"] == stream)
    row = next(row for row in entry["metadata"] if row["breadcrumb"] == breadcrumb)
    row["metadata"]["selected"] = False
    return catalog


def _history(seed: int) -> tuple[int, str]:
    """One history: its seed, and what went wrong, if anything."""
    logging.disable(logging.CRITICAL)
    history = ChangingSettings(seed)
    try:
        found = history.run(random.Random(seed).randrange(1, 8))
    except Exception as error:  # noqa: BLE001 - what is found is noted
        found = {type(error).__name__: str(error)}
    return seed, "\n  ".join([str(found), *history.story]) if found else ""


def main() -> int:
    """Run histories, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    wrong = 0
    with multiprocessing.Pool(asked.processes, maxtasksperchild=20) as pool:
        seeds = range(asked.seed, asked.seed + asked.histories)
        for done, (seed, found) in enumerate(pool.imap_unordered(_history, seeds), 1):
            wrong += bool(found)
            if found:
                sys.stdout.write(f"seed {seed}: {found}\n")
            if done % 20 == 0:
                sys.stdout.write(f"{done} histories, {wrong} wrong\n")
    sys.stdout.write(f"{asked.histories} histories, {wrong} wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
