"""What the simulation's records want, and what Stripe may have done for them.

The model knows nothing of how the target works: it reads the records that sources made, the writes
that Stripe carried out, the objects it holds, STATE and the files of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.emulator import Emulator
from tests.target.simulation_world import COLLECTIONS, Outcome, Sent, find, objects

JSON = dict[str, Any]
Named = tuple[str, str]
"""(stream, key) of a record."""

SAME, COPY, EXTERNAL = "same_account", "copy", "external"
ACTION = "_action"
KEY = {SAME: "id", COPY: "id", EXTERNAL: "crm"}
"""The field that holds a record's key, by id mode."""
MARK = "sim"
"""Metadata by which the model knows what an object was made for, whatever the target stamps."""
DROP = object()
"""The value of an edit that takes a field out of the record."""
OF_STREAM = {kind: stream for stream, kind in COLLECTIONS.items()}


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


# ---------------------------------------------------------------------- records

Edit = tuple[str, Any]
"""A field (`metadata.a`) and its new value."""


@dataclass(frozen=True)
class Kind:
    """What a stream's records may hold, besides what a new object needs."""

    edits: tuple[Edit, ...]
    once: tuple[str, ...] = ()
    """Fields that cannot be read again: each value is one effect."""

    @property
    def choices(self) -> tuple[Edit, ...]:
        """The edits, those that move money or cannot be undone more often."""
        rare = tuple(edit for edit in self.edits if edit[0] in _RARE)
        return (*self.edits, *rare, *rare)


_RARE = frozenset({ACTION, "source", "add_invoice_items", "unit_amount", "deleted", "parent"})


def _texts(*names: str) -> tuple[Edit, ...]:
    return tuple((name, value) for name in names for value in ("one", "two"))


_METADATA: tuple[Edit, ...] = (
    ("metadata.a", "1"),
    ("metadata.a", "2"),
    ("metadata.a", DROP),
    ("metadata.a", None),
    ("metadata.b", "1"),
    ("metadata.b", DROP),
    ("metadata.own", "1"),
    ("metadata.own", DROP),
)
_TOMBSTONE: tuple[Edit, ...] = (("deleted", True), ("deleted", DROP))


def _actions(*names: str) -> tuple[Edit, ...]:
    return tuple((ACTION, name) for name in names)


KINDS: Mapping[str, Kind] = {
    "customers": Kind(
        (
            *_texts("name", "description"),
            ("description", None),
            ("phone", "+491234"),
            ("phone", None),
            ("balance", -100),
            ("balance", 0),
            ("source", "tok_visa"),
            ("source", "tok_mastercard"),
            *_METADATA,
            *_TOMBSTONE,
        ),
        once=("source",),
    ),
    "products": Kind((*_texts("name", "description"), *_METADATA, *_TOMBSTONE)),
    "prices": Kind(
        (
            *_texts("nickname"),
            ("unit_amount", 1000),
            ("unit_amount", 1500),
            ("unit_amount", 2000),
            *_METADATA,
            *_TOMBSTONE,
        )
    ),
    "subscriptions": Kind(
        (
            *_texts("description"),
            ("add_invoice_items", 1),
            ("add_invoice_items", 2),
            *_actions("pause", "resume", "cancel"),
            (ACTION, DROP),
            *_METADATA,
            *_TOMBSTONE,
        ),
        once=("add_invoice_items",),
    ),
    "subscription_items": Kind((("quantity", 3), ("quantity", 5), *_METADATA, *_TOMBSTONE)),
    "invoices": Kind(
        (
            *_texts("description", "footer"),
            *_actions("send", "finalize", "send", "pay", "void", "mark_uncollectible"),
            (ACTION, DROP),
            *_METADATA,
            *_TOMBSTONE,
        )
    ),
    "invoice_line_items": Kind((*_texts("description"), ("amount", 510), *_METADATA)),
    "payment_intents": Kind(
        (*_texts("description"), *_actions("confirm", "capture", "cancel"), *_METADATA)
    ),
    "charges": Kind((*_texts("description"), *_METADATA)),
    "refunds": Kind((("parent", "charge"), ("parent", "payment_intent"), *_METADATA)),
    "disputes": Kind((*_actions("close"), *_METADATA)),
    "payouts": Kind((*_actions("cancel", "reverse"), *_METADATA)),
    "payment_methods": Kind((("customer", None), *_METADATA, *_TOMBSTONE)),
}
ORDER = tuple(KINDS)

DONE = {
    "finalize": {"open", "paid", "void", "uncollectible"},
    "pay": {"paid"},
    "void": {"void"},
    "mark_uncollectible": {"uncollectible"},
    "cancel": {"canceled", "incomplete_expired"},
    "pause": {"paused"},
    "resume": {"active"},
    "confirm": {"succeeded", "processing", "requires_capture", "requires_action"},
    "capture": {"succeeded"},
    "close": {"lost"},
}
"""Action → the statuses in which it happened already."""

_COMPARED = frozenset(
    {"name", "description", "phone", "balance", "nickname", "quantity", "footer", "unit_amount"}
)
"""Fields that are the same in record, parameter and object."""
_READ_ONLY_BACK = frozenset({"balance"})


@dataclass
class Thing:
    """What a source has records of: its stream, key, and the record as it is now."""

    stream: str
    key: str
    record: JSON

    def edit(self, name: str, value: Any, own: str) -> None:
        """Change the record; `own` is the metadata key that only this source has."""
        if name == "parent":
            self._other_parent(str(value))
        elif name.startswith("metadata."):
            part = name.partition(".")[2]
            _put(self.record.setdefault("metadata", {}), own if part == "own" else part, value)
        else:
            _put(self.record, name, value)

    def _other_parent(self, name: str) -> None:
        held = self.record.pop("_parents", None) or {}
        if not held:
            return
        for parent in held:
            self.record.pop(parent, None)
        self.record[name] = held[name]
        self.record["_parents"] = held


def _put(holder: JSON, name: str, value: Any) -> None:
    if value is DROP:
        holder.pop(name, None)
    else:
        holder[name] = value


@dataclass(frozen=True)
class Entry:
    """A record as a source made it, and its place there."""

    number: int
    stream: str
    key: str
    record: Mapping[str, Any]

    @property
    def named(self) -> Named:
        return self.stream, self.key

    @property
    def deleted(self) -> bool:
        return bool(self.record.get("deleted"))


@dataclass
class Source:
    """A pipeline's source: it sends again whatever came after the last STATE it has."""

    name: str
    whole: bool
    """Whether its schemas name no keys under `metadata`."""
    things: list[Thing]
    log: list[Entry] = field(default_factory=list)
    bookmark: int = 0
    pending: list[Entry] = field(default_factory=list)
    """What was handed to runs since the last one that went through."""

    def produce(self, thing: Thing) -> Entry:
        """Note the thing's record as it is now."""
        record = {name: value for name, value in thing.record.items() if name != "_parents"}
        if isinstance(record.get("metadata"), dict):
            record["metadata"] = dict(record["metadata"])
        entry = Entry(len(self.log) + 1, thing.stream, thing.key, record)
        self.log.append(entry)
        return entry

    def tail(self) -> list[Entry]:
        """What came after the last STATE."""
        return self.log[self.bookmark :]

    def latest(self) -> list[Entry]:
        """The newest record of each key, as a table sync sends it."""
        newest = {entry.named: entry for entry in self.log}
        return sorted(newest.values(), key=lambda entry: entry.number)

    def messages(self, entries: Sequence[Entry], each: int) -> list[JSON]:
        """Singer messages, with a STATE after so many records."""
        out: list[JSON] = []
        seen: set[str] = set()
        for count, entry in enumerate(entries, 1):
            if entry.stream not in seen:
                seen.add(entry.stream)
                out.append(self._schema(entry))
            out.append({"type": "RECORD", "stream": entry.stream, "record": dict(entry.record)})
            if count % each == 0 or count == len(entries):
                value = {"source": self.name, "upto": entry.number, "sent": count}
                out.append({"type": "STATE", "value": value})
        return out

    def _schema(self, entry: Entry) -> JSON:
        key = "crm" if "crm" in entry.record else "id"
        metadata: JSON = {} if self.whole else {"properties": {"a": {}, "b": {}}}
        schema = {"type": "object", "properties": {key: {}, "metadata": metadata}}
        return {
            "type": "SCHEMA",
            "stream": entry.stream,
            "schema": schema,
            "key_properties": [key],
        }

    def edges(self, named: Named, name: str, value: Any) -> int:
        """How often records of a key came to hold a value that the one before did not."""
        before, count = None, 0
        for entry in self.log:
            if entry.named == named:
                now = entry.record.get(name)
                count += now == value and before != value
                before = now
        return count

    def ever_held(self, named: Named, part: str) -> bool:
        """Whether a record of the key ever held a metadata key."""
        return any(
            part in (entry.record.get("metadata") or {})
            for entry in self.log
            if entry.named == named
        )


def things(mode: str, made: Mapping[str, str]) -> list[Thing]:
    """What sources have records of, by id mode; `made` names what others made in Stripe."""
    rows = {SAME: _same, COPY: _copied, EXTERNAL: _external}[mode](made)
    found = []
    for stream, key, fields in rows:
        metadata = {} if mode == SAME else {"metadata": {MARK: f"{stream}:{key}"}}
        found.append(Thing(stream, key, {KEY[mode]: key, **metadata, **fields}))
    return found


Row = tuple[str, str, JSON]


def _same(made: Mapping[str, str]) -> Iterator[Row]:
    named = {
        "customers": ("ada", "bob"),
        "products": ("tea", "mug"),
        "prices": ("monthly", "once"),
        "payment_methods": ("ada_card",),
        "subscriptions": ("mailed", "charged"),
        "invoices": ("draft", "unpaid"),
        "payment_intents": ("held_intent", "waiting_intent"),
        "charges": ("paid",),
        "refunds": ("refund",),
        "disputes": ("dispute",),
        "payouts": ("payout",),
    }
    for stream, names in named.items():
        for name in names:
            yield stream, made[name], {}
    yield "subscription_items", made["mailed_item"], {"subscription": made["mailed"]}
    yield "subscription_items", made["charged_item"], {"subscription": made["charged"]}
    yield "invoice_line_items", made["draft_line"], {"invoice": made["draft"]}


def _new(customer: str, price: str, second: str) -> Iterator[Row]:
    """New objects that refer to each other."""
    monthly = {"currency": "usd", "recurring": {"interval": "month"}}
    mail = {"collection_method": "send_invoice", "days_until_due": 30}
    yield "customers", "cus_x1", {"name": "zero", "email": "a@example.com"}
    yield "customers", "cus_x2", {"name": "zero", "email": "a@example.com"}
    yield "products", "prod_x1", {"name": "zero"}
    yield "prices", "price_x1", {"product": "prod_x1", "unit_amount": 1000, **monthly}
    yield "prices", "price_x2", {"product": "prod_x1", "unit_amount": 1000, **monthly,
                                 "lookup_key": "x2"}  # fmt: skip
    items = [{"price": price, "quantity": 1}]
    yield "subscriptions", "sub_x1", {"customer": "cus_x1", "items": items, **mail}
    yield "subscriptions", "sub_x2", {"customer": customer, "items": items}
    item = {"subscription": "sub_x1", "price": second, "quantity": 1}
    yield "subscription_items", "si_x1", item
    yield "invoices", "in_x1", {"customer": "cus_x1", "collection_method": "send_invoice"}
    yield "invoices", "in_x2", {"customer": customer, "collection_method": "send_invoice"}
    yield "invoice_line_items", "il_x1", {"invoice": "in_x1", "amount": 500}
    yield "payment_intents", "pi_x1", {"amount": 900, "currency": "usd", "customer": "cus_x2"}
    yield "payouts", "po_x1", {"amount": 70, "currency": "usd"}


def _copied(made: Mapping[str, str]) -> Iterator[Row]:
    for stream, key, fields in _new("cus_x2", "price_x1", "price_x2"):
        items = [{"id": f"si_of_{key}", **item} for item in fields.get("items", ())]
        yield stream, key, {**fields, **({"items": items} if items else {})}


def _external(made: Mapping[str, str]) -> Iterator[Row]:
    for stream, key, fields in _new(made["bob"], made["monthly"], made["second"]):
        yield stream, key.replace("_", "-"), {n: _plain(v) for n, v in fields.items()}
    card = {"customer": made["bob"], "payment_method": made["bob_card"]}
    yield "payment_intents", "pi-x2", {
        "amount": 950, "currency": "usd", "capture_method": "manual", **card,
    }  # fmt: skip
    parents = {"charge": made["paid"], "payment_intent": made["paid_intent"]}
    for key in ("re-x1", "re-x2"):
        yield "refunds", key, {"charge": made["paid"], "amount": 50, "_parents": parents}


def _plain(value: Any) -> Any:
    """References to keys of the user's own, which do not look like Stripe's ids."""
    if isinstance(value, str) and "_x" in value:
        return value.replace("_", "-")
    return value


# ---------------------------------------------------------------------- deeds


@dataclass(frozen=True)
class Deed:
    """A write that Stripe carried out, understood."""

    sent: Sent
    stream: str
    verb: str
    """`create`, `update`, `delete`, or the name of an action."""
    named: Named | None
    """Whose record it was for."""
    params: Mapping[str, str]
    """Its parameters; those of a line without what is around them."""
    guards: frozenset[str]
    """What `allow_actions` must contain for it."""

    def __str__(self) -> str:
        return f"run {self.sent.run}: {self.sent} for {self.named}"


class Reader:
    """Understands writes."""

    def __init__(self, emulator: Emulator, mode: str) -> None:
        self._emulator = emulator
        self._mode = mode

    def deed(self, sent: Sent) -> Deed:
        """What a write was for."""
        parts = sent.path.split("/")[2:]
        stream, verb, params = self._verb(sent, parts)
        named = self._named(sent, stream, verb, params)
        guards = frozenset(_guards(stream, verb, params, sent.before or {}))
        return Deed(sent, stream, verb, named, params, guards)

    @staticmethod
    def _verb(sent: Sent, parts: list[str]) -> tuple[str, str, Mapping[str, str]]:
        stream = parts[0]
        if parts[2:] == ["add_lines"]:
            start = "lines[0]"
            inner = {
                name.replace(start, "", 1).replace("[", "", 1).replace("]", "", 1): value
                for name, value in sent.params.items()
                if name.startswith(start)
            }
            return "invoice_line_items", "create", inner
        if parts[2:3] == ["lines"]:
            return "invoice_line_items", "update", sent.params
        if sent.method == "DELETE":
            return stream, "cancel" if stream == "subscriptions" else "delete", sent.params
        if len(parts) == 1:
            return stream, "create", sent.params
        return stream, parts[2] if len(parts) > 2 else "update", sent.params

    def _named(self, sent: Sent, stream: str, verb: str, params: Mapping[str, str]) -> Named | None:
        mark = params.get(f"metadata[{MARK}]")
        if verb != "create":
            before = sent.before or {}
            if self._mode == SAME:
                return (stream, str(before.get("id")))
            mark = (before.get("metadata") or {}).get(MARK)
        elif self._mode == SAME:
            before_id = params.get("metadata[stripe_alloy_replaces]")
            return (stream, before_id) if before_id else None
        return _split(mark)

    # -------------------------------------------------------------- objects

    def held(self, named: Named) -> list[JSON]:
        """The objects there are for a key, oldest first."""
        stream, key = named
        kind = COLLECTIONS[stream]
        if self._mode == SAME:
            found = find(self._emulator, kind, key)
            own = [found] if found and not found.get("deleted") else []
            return own + (self._successors(key) if stream == "prices" else [])
        mark = f"{stream}:{key}"
        return [
            found
            for found in objects(self._emulator, kind)
            if (found.get("metadata") or {}).get(MARK) == mark
        ]

    def _successors(self, key: str) -> list[JSON]:
        chain = [key]
        found = []
        for price in objects(self._emulator, "price"):
            if price["metadata"].get("stripe_alloy_replaces") in chain:
                chain.append(price["id"])
                found.append(price)
        return found


def _split(mark: str | None) -> Named | None:
    if not mark:
        return None
    stream, _, key = mark.partition(":")
    return stream, key


def _guards(
    stream: str, verb: str, params: Mapping[str, str], before: Mapping[str, Any]
) -> Iterator[str]:
    """What docs/writing.md says needs a permission."""
    mails = (params.get("collection_method") or before.get("collection_method")) == "send_invoice"
    names = {name.partition("[")[0] for name in params}
    if verb not in ("create", "update", "delete", "attach", "add_lines"):
        yield f"{stream}.{verb}"
    table = (
        (stream in ("refunds", "payouts", "subscription_items") and verb == "create", "create"),
        (stream == "subscriptions" and verb == "create" and not mails, "create"),
        (
            stream == "subscriptions"
            and verb == "update"
            and not mails
            and bool(names & {"items", "add_invoice_items"}),
            "items",
        ),
        (stream == "subscription_items" and verb == "update" and "quantity" in names, "update"),
        (stream in ("customers", "subscription_items") and verb == "delete", "delete"),
        (stream == "customers" and verb == "update" and "balance" in names, "balance"),
        (stream == "customers" and "source" in names, "source"),
        (stream == "disputes" and verb == "update" and params.get("submit") != "false", "submit"),
        ("metadata[stripe_alloy_replaces]" in params, "replace"),
    )
    for needed, name in table:
        if needed:
            yield f"{stream}.{name}"


# ---------------------------------------------------------------------- invariants


@dataclass(frozen=True)
class Run:
    """What a run was given."""

    source: Source
    entries: Sequence[Entry]
    allowed: frozenset[str]
    delete_policy: str


class Judge:
    """Keeps what was done and by whom, and says what should not have been."""

    def __init__(self, emulator: Emulator, mode: str, sources: Sequence[Source]) -> None:
        self.reader = Reader(emulator, mode)
        self._mode = mode
        self._sources = sources
        self.weighed = 0
        """Writes that were looked at."""
        self.deeds: list[Deed] = []
        self.removed: Counter[Named] = Counter()
        """How often objects of a key were deleted."""
        self._writers: dict[tuple[Named, str], set[str]] = {}
        self._counts: Counter[tuple[Named, str, Any]] = Counter()
        self._happened: set[tuple[Named, str]] = set()
        self._fresh: set[tuple[Named | None, str, Any]] = set()
        self._unweighed: list[Deed] = []

    # -------------------------------------------------------------- what others do

    def others_wrote(self, named: Named, name: str) -> None:
        """Somebody else wrote a field."""
        self._writers.setdefault((named, name), set()).add("others")

    def others_removed(self, named: Named) -> None:
        """Somebody else deleted an object."""
        self.removed[named] += 1

    # -------------------------------------------------------------- after a run

    def look(self, run: Run, outcome: Outcome) -> None:
        """Judge a run by what it did."""
        if outcome.ended == "broken":
            error = outcome.error
            raise Violation("no clear error", f"{type(error).__name__}: {error}")
        for sent in outcome.sent:
            self.weighed += 1
            self._weigh(run, self.reader.deed(sent))
        if outcome.ended == "done":
            self._accounts(run, outcome)

    def _weigh(self, run: Run, deed: Deed) -> None:
        self.deeds.append(deed)
        entries = self._wanting(run, deed)
        if not entries:
            if self._is_side_effect(run, deed):
                return
            raise Violation("write that no record wanted", str(deed))
        self._is_allowed(run, deed)
        if deed.verb == "create":
            self._creation(deed, entries)
        elif deed.verb == "update":
            self._values(run, deed, entries)
        elif deed.verb in ("delete", "detach"):
            self._removal(run, deed, entries)
        elif deed.verb != "attach":
            self._action(run, deed, entries)
        self._once(deed)
        self._note(run, deed)

    def _wanting(self, run: Run, deed: Deed) -> list[Entry]:
        """Records that may have asked for it: of this run, or handed to one that did not end."""
        pending = (entry for source in self._sources for entry in source.pending)
        return [e for e in (*run.entries, *pending) if e.named == deed.named]

    def _is_side_effect(self, run: Run, deed: Deed) -> bool:
        """What a price's replacement does to its product and its successor."""
        names = set(deed.params)
        wants_price = any(
            entry.stream == "prices"
            for entry in (*run.entries, *(e for s in self._sources for e in s.pending))
        )
        product = deed.stream == "products" and names == {"default_price"}
        return wants_price and deed.verb == "update" and product

    def _is_allowed(self, run: Run, deed: Deed) -> None:
        lacking = deed.guards - run.allowed
        if lacking:
            raise Violation("write that was not allowed", f"{sorted(lacking)}: {deed}")

    def _creation(self, deed: Deed, entries: Sequence[Entry]) -> None:
        assert deed.named
        if all(entry.deleted for entry in entries):
            raise Violation("creation that no record wanted", str(deed))
        amount = deed.params.get("unit_amount")
        if deed.stream == "prices":
            bound = self._edges(deed.named, "unit_amount", int(amount or 0))
            self._at_most(deed, "unit_amount", amount, bound + self.removed[deed.named])
        else:
            self._at_most(deed, "create", None, 1 + self.removed[deed.named])

    def _at_most(self, deed: Deed, effect: str, value: Any, bound: int) -> None:
        assert deed.named
        self._counts[deed.named, effect, value] += 1
        count = self._counts[deed.named, effect, value]
        if count > bound:
            raise Violation(
                "effect more than once",
                f"{effect} {value or ''} of {deed.named} {count} times, wanted {bound}: {deed}",
            )

    def _edges(self, named: Named, name: str, value: Any) -> int:
        return sum(source.edges(named, name, value) for source in self._sources)

    def _action(self, run: Run, deed: Deed, entries: Sequence[Entry]) -> None:
        assert deed.named
        ends = deed.verb == "cancel" and any(
            entry.deleted and run.delete_policy == "delete" for entry in entries
        )
        if not ends and all(entry.record.get(ACTION) != deed.verb for entry in entries):
            raise Violation("action that no record wanted", str(deed))
        bound = self._edges(deed.named, ACTION, deed.verb)
        bound += self._edges(deed.named, "deleted", True) if deed.verb == "cancel" else 0
        self._at_most(deed, ACTION, deed.verb, bound)

    def _removal(self, run: Run, deed: Deed, entries: Sequence[Entry]) -> None:
        assert deed.named
        buried = any(entry.deleted for entry in entries) and run.delete_policy == "delete"
        detached = deed.verb == "detach" and any(
            "customer" in e.record and e.record["customer"] is None for e in entries
        )
        if not buried and not detached:
            raise Violation("deletion that no record wanted", str(deed))
        self.removed[deed.named] += 1

    def _once(self, deed: Deed) -> None:
        assert deed.named
        for name in KINDS[deed.stream].once:
            value = _once_value(name, deed.params)
            if value is not None:
                bound = self._edges(deed.named, name, _once_wanted(name, value))
                self._at_most(deed, name, value, bound)

    def _values(self, run: Run, deed: Deed, entries: Sequence[Entry]) -> None:
        for name, value in deed.params.items():
            if name.startswith("metadata["):
                self._metadata(run, deed, name[9:-1], value, entries)
            elif name in _COMPARED:
                wanted = {_text(e.record[name]) for e in entries if name in e.record}
                if value not in wanted:
                    raise Violation("value that no record wanted", f"{name}={value!r}: {deed}")
            elif name == "active" and value == "false":
                self._archive(run, deed, entries)

    def _archive(self, run: Run, deed: Deed, entries: Sequence[Entry]) -> None:
        buried = any(entry.deleted for entry in entries) and run.delete_policy != "ignore"
        if not buried and not self._is_replaced(deed):
            raise Violation("archiving that no record wanted", str(deed))

    def _is_replaced(self, deed: Deed) -> bool:
        before = (deed.sent.before or {}).get("id")
        return deed.stream == "prices" and any(
            other.params.get("metadata[stripe_alloy_replaces]") == before for other in self.deeds
        )

    def _metadata(
        self, run: Run, deed: Deed, part: str, value: str, entries: Sequence[Entry]
    ) -> None:
        if part in (MARK, "crm") or part.startswith("stripe_alloy_"):
            return
        held = [entry.record.get("metadata") for entry in entries]
        if value:
            if all(not m or m.get(part) != value for m in held):
                raise Violation("value that no record wanted", f"metadata.{part}={value!r}: {deed}")
            return
        if any(m is not None and part in m and m[part] is None for m in held):
            return
        assert deed.named
        owners = [run.source, *(s for s in self._sources if s.pending)]
        dropped = any(m is not None and part not in m for m in held)
        if not dropped or not any(s.whole and s.ever_held(deed.named, part) for s in owners):
            raise Violation("key unset that nobody removed", f"metadata.{part}: {deed}")

    def _note(self, run: Run, deed: Deed) -> None:
        assert deed.named
        for name in deed.params:
            plain = f"metadata.{name[9:-1]}" if name.startswith("metadata[") else name
            self._writers.setdefault((deed.named, plain), set()).add(run.source.name)

    # -------------------------------------------------------------- every outcome is told

    def _accounts(self, run: Run, outcome: Outcome) -> None:
        given = Counter(entry.stream for entry in run.entries)
        for stream, counts in outcome.summary.items():
            read = counts.pop("read")
            if read != given[stream] or read != sum(counts.values()):
                text = f"{stream}: {given[stream]} given, {read} read, {counts}"
                raise Violation("outcome that is not told", text)
        if set(outcome.summary) != set(given):
            raise Violation("outcome that is not told", f"{set(given) ^ set(outcome.summary)}")
        lines = Counter((line["stream"], line["verdict"]) for line in outcome.rejects)
        for stream, counts in outcome.summary.items():
            for verdict in ("rejected", "blocked", "conflict"):
                if lines[stream, verdict] != counts[verdict]:
                    text = f"{stream}: {counts}, lines: {dict(lines)}"
                    raise Violation("outcome that is not told", text)

    # -------------------------------------------------------------- what is settled

    def unsettled(
        self,
        run: Run,
        entries: Iterable[Entry],
        rejects: Sequence[JSON],
        sent: Sequence[Sent],
        newer: Sequence[Entry] = (),
    ) -> Iterator[str]:
        """Records whose effects are not there, and of which nothing is told.

        `sent` are the run's writes that were not looked at yet, `newer` the records that the run
        has read after these. Any of those may be written already: then Stripe has what the newer
        record of a key says.
        """
        self._unweighed = [self.reader.deed(one) for one in sent]
        self._fresh = {
            (deed.named, name, value) for deed in self._unweighed for name, value in _effects(deed)
        }
        newest = {entry.named: entry for entry in entries}
        for entry in newest.values():
            if not _is_told(entry, rejects):
                why = self._lacks(run, entry, [one for one in newer if one.named == entry.named])
                if why:
                    yield f"{entry.stream} {entry.key} ({entry.number}): {why}"

    def _lacks(self, run: Run, entry: Entry, newer: Sequence[Entry]) -> str:
        found = self.reader.held(entry.named)
        if entry.deleted:
            again = any(not one.deleted for one in newer)
            return "" if again else self._still_there(run, entry, found)
        if any(one.deleted for one in newer) and (entry.named, "removed", None) in self._fresh:
            return ""  # what there is now is another object
        if not found:
            gone = [entry.named, ("invoices", str(entry.record.get("invoice")))]  # with its lines
            done = any(self._is_done(named, "removed", None) for named in gone)
            return "" if done else "it is not there"
        return self._differs(run, entry, found, newer) or self._undone(entry, found, newer)

    def _still_there(self, run: Run, entry: Entry, found: Sequence[JSON]) -> str:
        if run.delete_policy == "ignore" or not found:
            return ""
        if entry.stream in ("products", "prices"):
            # In the same account a tombstone is about its own id, not about what replaced it.
            meant = [one for one in found if self._mode != SAME or one["id"] == entry.key]
            active = any(one["active"] for one in meant)
            changed = "others" in self._writers.get((entry.named, "active"), set())
            return "it is active" if active and not changed else ""
        if entry.stream == "subscriptions":
            return "" if found[-1]["status"] in DONE["cancel"] else "it is not canceled"
        if entry.stream == "payment_methods":
            return "it is attached" if found[-1]["customer"] else ""
        return "it is not deleted"

    def _differs(
        self, run: Run, entry: Entry, found: Sequence[JSON], newer: Sequence[Entry]
    ) -> str:
        for name, value in _leaves(entry.record):
            writers = self._writers.get((entry.named, name), set())
            if writers - {run.source.name}:
                continue  # three-way: what others changed may stay
            wanted = {_text(value), *_values_of(run, name, newer)}
            if not any(_text(_at(one, name)) in wanted for one in found):
                return f"{name} is {[_at(one, name) for one in found]}, not {value!r}"
        return ""

    def _undone(self, entry: Entry, found: Sequence[JSON], newer: Sequence[Entry]) -> str:
        action = entry.record.get(ACTION)
        if action and not self._is_done(entry.named, ACTION, action):
            statuses = {found[-1].get("status"), *self._passed(entry.named, newer)}
            if statuses & DONE.get(action, set()):
                self._happened.add((entry.named, action))  # whatever becomes of it later
            elif (entry.named, action) not in self._happened:
                return f"{action} was not done"
        for name in KINDS[entry.stream].once:
            value = entry.record.get(name)
            if value is not None and not self._is_done(entry.named, name, _once_sent(name, value)):
                return f"{name} was not sent"
        return ""

    def _passed(self, named: Named, newer: Sequence[Entry]) -> Iterator[str]:
        """The statuses from which actions of newer records led."""
        actions = {one.record.get(ACTION) for one in newer}
        for deed in self._unweighed:
            if deed.named == named and deed.verb in actions and deed.sent.before:
                yield str(deed.sent.before.get("status"))

    def _is_done(self, named: Named, effect: str, value: Any) -> bool:
        if (named, effect, value) in self._fresh:
            return True
        if effect == "removed":
            return self.removed[named] > 0
        return self._counts[named, effect, value] > 0


def _effects(deed: Deed) -> Iterator[tuple[str, Any]]:
    if deed.verb in ("delete", "detach"):
        yield "removed", None
    elif deed.verb not in ("create", "update"):
        yield ACTION, deed.verb
    for name in KINDS[deed.stream].once if deed.stream in KINDS else ():
        value = _once_value(name, deed.params)
        if value is not None:
            yield name, value


def _once_value(name: str, params: Mapping[str, str]) -> str | None:
    return params.get("add_invoice_items[0][quantity]" if name != "source" else name)


def _once_sent(name: str, value: Any) -> str:
    return str(value[0]["quantity"]) if name == "add_invoice_items" else str(value)


def _once_wanted(name: str, value: str) -> Any:
    return fee(int(value)) if name == "add_invoice_items" else value


def fee(quantity: int) -> list[JSON]:
    """A setup fee, as a record asks for it."""
    return [{"price_data": _FEE, "quantity": quantity}]


_FEE: JSON = {"currency": "usd", "product": "", "unit_amount": 77}


def charge_fees_for(product: str) -> None:
    """Name the product that setup fees are of."""
    _FEE["product"] = product


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _leaves(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if name in _COMPARED - _READ_ONLY_BACK:
            yield name, value
    for part, value in (record.get("metadata") or {}).items():
        yield f"metadata.{part}", value


def _values_of(run: Run, name: str, newer: Sequence[Entry]) -> Iterator[str]:
    """What records of a key make of a field; a key that metadata no longer holds is unset."""
    first, _, part = name.partition(".")
    for entry in newer:
        holder = entry.record.get(first)
        if first in entry.record and (not part or run.source.whole or part in (holder or {})):
            yield _text(_at(entry.record, name))


def _at(one: Mapping[str, Any], name: str) -> Any:
    first, _, part = name.partition(".")
    value = one.get(first)
    return (value or {}).get(part) if part else value


def _is_told(entry: Entry, rejects: Sequence[JSON]) -> bool:
    return any(
        line["stream"] == entry.stream
        and all(line["record"].get(name) == value for name, value in entry.record.items())
        for line in rejects
    )
