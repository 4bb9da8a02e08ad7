"""Previews of what a planned change of a subscription will invoice.

All but `Previews`, which asks Stripe, is pure: it turns a planned request into the parameters of a
preview, and Stripe's response into what the plan shows.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from stripe_alloy.api.client import PREVIEW_PATH
from stripe_alloy.api.errors import (
    InvalidRequestError,
    MissingPermissionError,
    RateLimited,
    StripeError,
    StripeUnavailable,
)
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.params import ParamType, param_type
from stripe_alloy.api.timestamps import DAY, rfc3339
from target_stripe_alloy.params_tree import Tree, form_fields, is_empty
from target_stripe_alloy.plan.plan_types import Decision, Outcome, PlannedRequest
from target_stripe_alloy.plan.record_keys import reference_to
from target_stripe_alloy.write.account_client import AccountClient
from target_stripe_alloy.write.id_resolver import PLANNED

_logger = logging.getLogger(__name__)

SUBSCRIPTIONS, ITEMS = "subscriptions", "subscription_items"
_EARLIER_RECORD = "without what an earlier record of this plan does to the same subscription"
CLOCK_TOLERANCE = 60
"""Seconds by which the period of an invoice that is made at once may differ from our clock."""
_ITEM_FIELDS = frozenset({"price", "price_data", "quantity", "discounts", "tax_rates", "deleted"})
_SUBSCRIPTION_FIELDS = frozenset(
    {
        "add_invoice_items",
        "automatic_tax",
        "billing_cycle_anchor",
        "cancel_at",
        "cancel_at_period_end",
        "default_tax_rates",
        "discounts",
        "trial_end",
    }
)
"""Parameters of an update that can change an invoice; items are checked one by one."""
_PRORATION = ("proration_behavior", "proration_date")
_CANCELED = (
    "it is canceled without proration and without a last invoice: nothing more is invoiced for it "
    "but items that are pending already"
)
_NOT_PREVIEWED: Mapping[str, str] = {
    "cancel": _CANCELED,
    "delete": _CANCELED,
    "pause": "what a pause credits waits for a later invoice, which Stripe does not preview",
}
"""Request → why Stripe can preview nothing of what follows it."""

_ZERO = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
_THREE = "bhd jod kwd omr tnd"
_DECIMALS = {**dict.fromkeys(_ZERO.split(), 0), **dict.fromkeys(_THREE.split(), 3)}
"""docs.stripe.com/currencies. ISK and UGX have none, and Stripe counts them in hundredths all the
same."""


# ---------------------------------------------------------------------- money


def decimals_of(currency: str) -> int:
    """Return the number of decimals of a currency in Stripe's minor units."""
    return _DECIMALS.get(currency.lower(), 2)


def money(amount: int, currency: str) -> str:
    """Return an amount in minor units as people write it.

    >>> money(-1999, "usd"), money(500, "jpy"), money(5, "kwd")
    ('-19.99 USD', '500 JPY', '0.005 KWD')
    """
    places = decimals_of(currency)
    units, part = divmod(abs(amount), 10**places)
    sign = "-" if amount < 0 else ""
    decimals = f".{part:0{places}d}" if places else ""
    return f"{sign}{units}{decimals} {currency.upper()}"


# ---------------------------------------------------------------------- parameters of a preview


@dataclass(frozen=True)
class Question:
    """The parameters of a preview."""

    params: Mapping[str, Tree]
    at_once: bool
    """Whether the change creates the invoice at once, whatever Stripe's response is."""
    note: str = ""
    """What the preview does not take into account."""


@dataclass(frozen=True)
class NoQuestion:
    """A change that invoices something, and that cannot be previewed."""

    reason: str


def question(
    stream: str,
    requests: Sequence[PlannedRequest],
    current: JSON | None,
    now: float,
    customers: Mapping[str, Tree] | None = None,
) -> Question | NoQuestion | None:
    """Return what to ask Stripe about the planned requests of a record; None if nothing.

    `current` is the object in Stripe. `now` is in Unix seconds. `customers` holds the
    `customer_details` of customers that are only planned.
    """
    if stream not in (SUBSCRIPTIONS, ITEMS):
        return None
    questions = (_of_request(stream, request, current, now) for request in requests)
    asked = next(filter(None, questions), None)
    following = _after_action(asked, requests, current) if stream == SUBSCRIPTIONS else asked
    if not isinstance(following, Question):
        return following
    return _without_planned(following, customers or {})


def _after_action(
    asked: Question | None, requests: Sequence[PlannedRequest], current: JSON | None
) -> Question | NoQuestion | None:
    """Return the question about an action, unless an invoice is created before the action."""
    kinds = [request.kind for request in requests]
    if "resume" in kinds and current is not None:
        params = asked.params if asked else {"subscription": current["id"]}
        details = {**params.get("subscription_details", {}), "resume_at": "now"}
        return Question({**params, "subscription_details": details}, at_once=True)
    why = next((_NOT_PREVIEWED[kind] for kind in kinds if kind in _NOT_PREVIEWED), "")
    return NoQuestion(why) if why and not (asked and asked.at_once) else asked


def _of_request(
    stream: str, request: PlannedRequest, current: JSON | None, now: float
) -> Question | None:
    if stream == ITEMS:
        return _of_item(request, current)
    if request.kind == "create":
        return _of_new(request.params, now)
    return _of_change(request, current) if request.kind == "update" else None


def _shape() -> ParamType:
    return param_type("InvoiceCreatePreviewParams")


def _part(name: str) -> ParamType:
    return (_shape().fields or {})[name]


def _of_new(params: Mapping[str, Tree], now: float) -> Question:
    days = params.get("trial_period_days")
    if days and int(days) > 0 and "trial_end" not in params:
        params = {**params, "trial_end": str(int(now) + int(days) * DAY)}
    return Question({**_invoice_params(params), **_subscription_params(params)}, at_once=True)


def _of_change(request: PlannedRequest, current: JSON | None) -> Question | None:
    params = request.params
    items = [entry for entry in params.get("items") or () if _affects_invoice(entry)]
    if current is None or not (items or _SUBSCRIPTION_FIELDS & params.keys()):
        return None
    details = _subscription_params(
        {**params, "items": items} if items else _without(params, "items")
    )
    asked = {"subscription": current["id"], **_invoice_params(params), **details}
    return Question(asked, _at_once(params))


def _of_item(request: PlannedRequest, current: JSON | None) -> Question | None:
    params = request.params
    if request.kind == "create":
        subscription, entry = params.get("subscription"), dict(params)
    elif current is None:
        return None
    else:
        subscription, entry = current["subscription"], {"id": current["id"], **params}
    if request.kind == "delete":
        entry["deleted"] = "true"
    if not _ITEM_FIELDS & entry.keys():
        return None
    details = _subscription_params(
        {**{name: params[name] for name in _PRORATION if name in params}, "items": [entry]}
    )
    asked = {"subscription": subscription, **details}
    return Question(asked, _at_once(params))


def _affects_invoice(entry: Mapping[str, Tree]) -> bool:
    """Whether a change of an item can change an invoice."""
    return "id" not in entry or bool(_ITEM_FIELDS & entry.keys())


def _at_once(params: Mapping[str, Tree]) -> bool:
    return params.get("proration_behavior") == "always_invoice" or params.get("trial_end") == "now"


def _subscription_params(params: Mapping[str, Tree]) -> dict[str, Tree]:
    """Return the parameters that a subscription and its preview have in common."""
    details: dict[str, Tree] = _fitted(dict(params), _part("subscription_details"))
    return {"subscription_details": details} if details else {}


def _invoice_params(params: Mapping[str, Tree]) -> dict[str, Tree]:
    """Return the parameters that a subscription and an invoice have in common."""
    beside: dict[str, Tree] = _fitted(dict(params), _shape())
    fees = params.get("add_invoice_items")
    if fees:
        listed = [_without(fee, "period") for fee in fees]
        beside["invoice_items"] = _fitted(listed, _part("invoice_items"))
    return beside


def _fitted(tree: Tree, shape: ParamType) -> Tree:
    """Return a tree without the parts that a preview does not accept."""
    if isinstance(tree, dict) and shape.fields is not None:
        known = shape.fields
        names = known.keys() - {"metadata", "expand"}
        fits = {k: v for k, v in tree.items() if k in names and _same_form(v, known[k])}
        fitted = {k: _fitted(v, known[k]) for k, v in fits.items()}
        return {k: v for k, v in fitted.items() if v != {}}  # which would be sent as nothing
    if isinstance(tree, list) and shape.items is not None:
        return [_fitted(entry, shape.items) for entry in tree]
    return tree


def _same_form(tree: Tree, shape: ParamType) -> bool:
    """Whether a value is not a text where a preview takes an object."""
    objects_only = shape.fields is not None and not shape.scalars and not shape.literals
    return not (objects_only and isinstance(tree, str))


def _without(tree: Mapping[str, Tree], name: str) -> dict[str, Tree]:
    return {k: v for k, v in tree.items() if k != name}


# ---------------------------------------------------------------------- planned objects


def _without_planned(asked: Question, customers: Mapping[str, Tree]) -> Question | NoQuestion:
    """Return the question without the ids of planned objects."""
    params = dict(asked.params)
    note = ""
    if _is_planned(params.get("customer")):
        details = customers.get(params.pop("customer"))
        if details:
            params["customer_details"] = details
        note = "without the customer, who does not exist yet"
    planned = sorted(_planned(params))
    if planned:
        return NoQuestion(f"{', '.join(planned)} does not exist yet")
    return replace(asked, params=params, note=note)


def _is_planned(leaf: Tree) -> bool:
    return isinstance(leaf, str) and leaf.startswith(PLANNED)


def _planned(tree: Tree) -> Iterator[str]:
    """Yield the planned objects that a tree refers to, such as `prices p1`."""
    if isinstance(tree, (dict, list)):
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from _planned(inner)
    elif _is_planned(tree):
        stream, _, key = tree[len(PLANNED) :].partition(":")
        yield f"{stream} {reference_to(key)}"


def customer_details(params: Mapping[str, Tree]) -> Tree:
    """Return what a preview can know of a customer that is made with these parameters."""
    taxes = params.get("tax_id_data")
    known = {**params, "tax_ids": taxes} if taxes else dict(params)
    fitted = _fitted(known, _part("customer_details"))
    return {name: inner for name, inner in fitted.items() if not is_empty(inner)}


# ---------------------------------------------------------------------- Stripe's response


def shown(asked: Question, answer: JSON, rows: Sequence[JSON], now: float) -> dict[str, Any]:
    """Return a preview as the plan's JSON has it: amounts in minor units, as Stripe has them."""
    currency = answer["currency"]
    next_at = None if asked.at_once else _next_at(answer, rows, now)
    return {
        "invoiced": "now" if next_at is None else "next",
        "invoiced_at": None if next_at is None else rfc3339(next_at),
        "currency": currency,
        "decimals": decimals_of(currency),
        "subtotal": answer["subtotal"],
        "total": answer["total"],
        "amount_due": answer["amount_due"],
        "lines": [_row(row) for row in rows],
        "subscription": asked.params.get("subscription"),
        "note": asked.note,
    }


def _next_at(answer: JSON, rows: Sequence[JSON], now: float) -> int | None:
    """Return the time of the next invoice, the start of a period; None if it is created now."""
    starts = [row["period"]["start"] for row in rows if not _is_proration(row)]
    last = max([answer.get("period_end") or 0, *starts])
    return last if abs(last - now) > CLOCK_TOLERANCE else None


def _row(row: JSON) -> dict[str, Any]:
    return {
        "description": row.get("description") or "",
        "amount": row["amount"],
        "proration": _is_proration(row),
    }


def _is_proration(row: JSON) -> bool:
    parent = row.get("parent") or {}
    kinds = ("subscription_item_details", "invoice_item_details")
    return any((parent.get(kind) or {}).get("proration") for kind in kinds)


def unavailable(reason: str) -> dict[str, Any]:
    """Return the entry in the plan of a record without a preview."""
    return {"unavailable": reason}


def lines_of(preview: Mapping[str, Any]) -> Iterator[str]:
    """Return a preview as readable lines, with amounts in the currency's major unit."""
    if "unavailable" in preview:
        yield f"no preview: {preview['unavailable']}"
        return
    currency = preview["currency"]
    note = f" ({preview['note']})" if preview["note"] else ""
    yield f"preview: {_when(preview)}{note}"
    rows = [(row["description"], row["amount"]) for row in preview["lines"]]
    off = preview["total"] - preview["subtotal"]
    if off:
        rows.append(("discounts and taxes", off))
    rows.append(("total", preview["total"]))
    if preview["amount_due"] != preview["total"]:
        rows.append(("customer balance", preview["amount_due"] - preview["total"]))
    rows.append(("amount due", preview["amount_due"]))
    texts = [(name, money(amount, currency)) for name, amount in rows]
    name_width = max(len(name) for name, _ in texts)
    amount_width = max(len(text) for _, text in texts)
    for name, text in texts:
        yield f"    {name:<{name_width}}  {text:>{amount_width}}"


def _when(preview: Mapping[str, Any]) -> str:
    if preview["invoiced"] == "now":
        return "invoiced now"
    return f"on the next invoice, {preview['invoiced_at'][:10]}"


# ---------------------------------------------------------------------- totals


@dataclass
class Sum:
    """What several previews add up to, in minor units."""

    number: int = 0
    total: int = 0
    due: int = 0


@dataclass
class Totals:
    """What the previews of a plan add up to, by currency. Not thread-safe."""

    missing: int = 0
    records: Counter[str] = field(default_factory=Counter)
    """Subscription → number of its records that have a preview."""
    last: dict[tuple[str, bool], tuple[str, str, int, int]] = field(default_factory=dict)
    """Subscription, and whether the record is blocked → currency, when, total and amount due."""

    def add(self, preview: Mapping[str, Any] | None, *, blocked: bool, record: str = "") -> None:
        """Count the preview of a record; `record` names a subscription that does not exist yet.

        Of several records of one subscription the last one counts: the same invoice, or a part of
        it, is in the previews of the others.
        """
        if not preview:
            return
        if "unavailable" in preview:
            self.missing += 1
            return
        name = preview["subscription"] or record
        self.records[name] += 1
        amounts = preview["total"], preview["amount_due"]
        self.last[name, blocked] = preview["currency"], preview["invoiced"], *amounts

    def _sums(self) -> Mapping[tuple[str, bool, str], Sum]:
        sums: dict[tuple[str, bool, str], Sum] = defaultdict(Sum)
        for (_, blocked), (currency, invoiced, total, due) in self.last.items():
            entry = sums[currency, blocked, invoiced]
            entry.number += 1
            entry.total += total
            entry.due += due
        return sums

    def lines(self) -> Iterator[str]:
        """Return the totals as readable lines."""
        for (currency, blocked, invoiced), entry in sorted(self._sums().items()):
            when = "invoiced now" if invoiced == "now" else "on next invoices"
            what = f"blocked, would be {when}" if blocked else when
            number = f"{entry.number} preview{'s' if entry.number > 1 else ''}"
            total, due = money(entry.total, currency), money(entry.due, currency)
            yield f"{currency.upper()} {what}: {number}, total {total}, amount due {due}"
        several = sum(number > 1 for number in self.records.values())
        if several:
            yield (
                f"{several} subscription{'s have' if several > 1 else ' has'} more than one "
                "record: only the preview of the last one is in the totals, as if the others "
                "were not there"
            )
        if self.missing:
            yield f"no preview: {self.missing} record{'s' if self.missing > 1 else ''}"


# ---------------------------------------------------------------------- requests


class Previews:
    """Asks Stripe what the records of a plan will invoice, one request a record. Thread-safe."""

    def __init__(self, client: AccountClient) -> None:
        self._client = client
        self._disabled = False
        self._lock = threading.Lock()
        self._customers: dict[str, Tree] = {}
        self._previewed: set[str] = set()

    def of(
        self,
        stream: str,
        key: str,
        decision: Decision,
        current: JSON | None,
        allowed: Callable[[], Decision],
    ) -> Decision:
        """Return a planned decision with its preview, if it invoices something.

        `allowed` decides again as if `allow_actions` named everything: its requests are what a
        blocked record would do. Raises `AuthenticationError`.
        """
        if stream == "customers":
            self._note_customer(key, decision)
        if stream not in (SUBSCRIPTIONS, ITEMS) or self._disabled:
            return decision
        if decision.outcome == Outcome.BLOCKED:
            decision = replace(decision, withheld=allowed().requests)
        requests = decision.requests or decision.withheld
        asked = question(stream, requests, current, self._client.now(), self._customers)
        if asked is None:
            return decision
        if isinstance(asked, NoQuestion):
            return replace(decision, preview=unavailable(asked.reason))
        name = str(asked.params.get("subscription") or key)
        changes = decision.outcome != Outcome.BLOCKED
        return replace(decision, preview=self._ask(self._with_note(name, asked, changes=changes)))

    def _with_note(self, subscription: str, asked: Question, *, changes: bool) -> Question:
        """Return the question, with a note if the subscription has an earlier record."""
        with self._lock:
            again = subscription in self._previewed
            if changes:
                self._previewed.add(subscription)
        notes = [asked.note, _EARLIER_RECORD if again else ""]
        return replace(asked, note="; ".join(filter(None, notes)))

    def _note_customer(self, key: str, decision: Decision) -> None:
        """Keep what is known of a customer who does not exist yet: subscriptions may follow."""
        for request in decision.requests:
            if request.kind == "create":
                self._customers[f"{PLANNED}customers:{key}"] = customer_details(request.params)

    def _ask(self, asked: Question) -> dict[str, Any] | None:
        body = urlencode(list(form_fields(dict(asked.params))))
        try:
            answer = self._client.request("POST", PREVIEW_PATH, body).body
            rows = self._rows(answer["lines"])
        except InvalidRequestError as error:
            return unavailable(str(error.failure))
        except (MissingPermissionError, RateLimited, StripeUnavailable) as error:
            self._disable(error)
            return None
        return shown(asked, answer, rows, self._client.now())

    def _rows(self, listed: JSON) -> Sequence[JSON]:
        """Return all lines: a preview contains the first ten."""
        if not listed.get("has_more"):
            found: list[JSON] = listed["data"]
            return found
        return list(self._client.list(listed["url"]))

    def _disable(self, error: StripeError) -> None:
        with self._lock:
            if not self._disabled:
                self._disabled = True
                _logger.warning(
                    "This plan goes on without previews of invoices: %s (`preview: false` asks "
                    "for none)",
                    error.failure,
                )
