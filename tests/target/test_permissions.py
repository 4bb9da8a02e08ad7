"""What moves money needs a name in `allow_actions`: each parameter, over HTTP and in the tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.params import ParamType
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.params_tree import form_fields
from target_stripe_alloy.plan import parameter_classes as money
from target_stripe_alloy.plan.copies import LEFT_OUT, READ_ONLY, uncopied_references
from target_stripe_alloy.plan.form_bodies import tree_from_form
from target_stripe_alloy.plan.parameter_classes import MONEY, Rule
from target_stripe_alloy.plan.permissions import (
    ALLOWED,
    UNCLASSED,
    action_needs,
    needed_by_request,
    needs_of,
    permissions_of,
)
from target_stripe_alloy.plan.plan_types import DesiredState
from target_stripe_alloy.resources import (
    ACTION,
    BEHAVIOR_PARAMS,
    BY_STREAM,
    COPYABLE_STREAMS,
    RESOURCES,
    Operation,
    Resource,
)
from tests.emulator.helpers import client_of
from tests.target.helpers import Run, one, record, schema, write

WRITABLE = [resource for resource in RESOURCES if resource.writable]
LATER = 1_900_000_000


# ---------------------------------------------------------------------- a small account


@dataclass
class World:
    """An account with one of each."""

    emulator: Emulator
    ids: dict[str, str]

    def objects(self) -> dict[str, JSON]:
        return {kind: one(self.emulator, kind, found) for kind, found in self.ids.items()}


def _made(emulator: Emulator) -> World:
    api: Any = client_of(emulator).v1
    product = api.products.create({"name": "P"}).id
    price = {"currency": "usd", "unit_amount": 1000, "product": product}
    monthly = api.prices.create({**price, "recurring": {"interval": "month"}}).id
    customer = api.customers.create({"name": "A"}).id
    card = api.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    settings = {"invoice_settings": {"default_payment_method": card}}
    api.customers.update(customer, settings)
    api.coupons.create({"id": "FREE", "percent_off": 100, "duration": "forever"})
    items = {"customer": customer, "items": [{"price": monthly, "quantity": 1}]}
    charged = api.subscriptions.create(items).id
    invoice = api.invoices.create({"customer": customer, "auto_advance": True}).id
    api.invoice_items.create(
        {"customer": customer, "invoice": invoice, "amount": 500, "currency": "usd"}
    )
    intent = api.payment_intents.create({"amount": 500, "currency": "usd", "customer": customer})
    paid = {"amount": 700, "currency": "usd", "customer": customer, "payment_method": card}
    charge = api.payment_intents.create({**paid, "confirm": True}).latest_charge
    ids = {
        "products": product,
        "prices": monthly,
        "customers": customer,
        "payment_methods": card,
        "subscriptions": charged,
        "subscription_items": one(emulator, "subscriptions", charged)["items"]["data"][0]["id"],
        "invoices": invoice,
        "payment_intents": intent.id,
        "charges": charge,
    }
    return World(emulator, ids)


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with Emulator(customers=0) as emulator:
        yield _made(emulator)


@pytest.fixture
def world() -> Iterator[World]:
    with Emulator(customers=0) as emulator:
        yield _made(emulator)


def attack(world: World, folder: Path, stream: str, fields: Mapping[str, Any], **more: Any) -> Run:
    own = {**fields}
    if own.get("items"):
        own["items"] = [{"id": world.ids["subscription_items"], **entry} for entry in own["items"]]
    row = record(stream, id=world.ids[stream], **own)
    return write(world.emulator, folder, [schema(stream), row], **more)


X99 = [{"quantity": 99}]

ATTACKS: list[tuple[str, JSON, set[str]]] = [
    (
        "subscriptions",
        {"collection_method": "send_invoice", "days_until_due": 30, "items": X99},
        {"subscriptions.items", "subscriptions.schedule"},
    ),
    ("subscriptions", {"items": X99}, {"subscriptions.items"}),
    ("subscriptions", {"pause_collection": {"behavior": "void"}}, {"subscriptions.pause"}),
    ("subscriptions", {"cancel_at": LATER}, {"subscriptions.cancel"}),
    ("subscriptions", {"cancel_at_period_end": True}, {"subscriptions.cancel"}),
    ("subscriptions", {"discounts": [{"coupon": "FREE"}]}, {"subscriptions.discounts"}),
    ("subscriptions", {"trial_end": LATER}, {"subscriptions.items"}),
    ("subscriptions", {"default_payment_method": "pm_2"}, {"subscriptions.payment"}),
    ("subscriptions", {"days_until_due": 90}, {"subscriptions.schedule"}),
    ("subscriptions", {"automatic_tax": {"enabled": True}}, {"subscriptions.taxes"}),
    ("subscriptions", {"default_tax_rates": ["txr_1"]}, {"subscriptions.taxes"}),
    (
        "subscriptions",
        {"transfer_data": {"destination": "acct_2"}, "application_fee_percent": 90},
        {"subscriptions.connect"},
    ),
    (
        "subscriptions",
        {"add_invoice_items": [{"price": "price_9"}]},
        {"subscriptions.items"},
    ),
    (
        "subscriptions",
        {"payment_settings": {"payment_method_types": ["card"]}},
        {"subscriptions.payment"},
    ),
    (
        "subscriptions",
        {"trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}},
        {"subscriptions.schedule"},
    ),
    ("subscriptions", {"billing_thresholds": {"amount_gte": 5}}, {"subscriptions.schedule"}),
    ("subscription_items", {"quantity": 99}, {"subscription_items.update"}),
    ("subscription_items", {"discounts": [{"coupon": "FREE"}]}, {"subscription_items.update"}),
    ("invoices", {"discounts": [{"coupon": "FREE"}]}, {"invoices.discounts"}),
    ("invoices", {"due_date": LATER}, {"invoices.schedule"}),
    ("invoices", {"days_until_due": 90}, {"invoices.schedule"}),
    ("invoices", {"auto_advance": False}, {"invoices.auto_advance"}),
    ("invoices", {"collection_method": "send_invoice"}, {"invoices.payment"}),
    ("invoices", {"default_payment_method": "pm_2"}, {"invoices.payment"}),
    ("invoices", {"transfer_data": {"destination": "acct_2"}}, {"invoices.connect"}),
    ("invoices", {"shipping_cost": {"shipping_rate": "shr_1"}}, {"invoices.lines"}),
    ("customers", {"balance": -500}, {"customers.balance"}),
    ("customers", {"tax_exempt": "exempt"}, {"customers.taxes"}),
    (
        "customers",
        {"invoice_settings": {"default_payment_method": "pm_2"}},
        {"customers.source"},
    ),
    ("customers", {"invoice_settings": {"default_payment_method": None}}, {"customers.source"}),
    ("payment_methods", {"card": {"exp_year": 2031}}, {"payment_methods.update"}),
    ("payment_intents", {"amount": 50_000}, {"payment_intents.amount"}),
    ("payment_intents", {"currency": "eur"}, {"payment_intents.amount"}),
    ("payment_intents", {"setup_future_usage": "off_session"}, {"payment_intents.payment"}),
    ("payment_intents", {"capture_method": "manual"}, {"payment_intents.payment"}),
    ("payment_intents", {"application_fee_amount": 400}, {"payment_intents.connect"}),
    ("charges", {"fraud_details": {"user_report": "fraudulent"}}, {"charges.fraud_details"}),
    ("prices", {"active": False}, {"prices.active"}),
    ("prices", {"lookup_key": "pro"}, {"prices.replace"}),
    ("prices", {"currency_options": {"eur": {"unit_amount": 1}}}, {"prices.replace"}),
    ("products", {"active": False}, {"products.active"}),
    ("products", {"tax_code": "txcd_99999999"}, {"products.taxes"}),
]


@pytest.mark.parametrize(
    ("stream", "fields", "names"), ATTACKS, ids=[f"{s}-{'-'.join(f)}" for s, f, _ in ATTACKS]
)
def test_what_moves_money_is_not_written_without_its_permission(
    shared: World, tmp_path: Path, stream: str, fields: JSON, names: set[str]
) -> None:
    before = shared.objects()
    run = attack(shared, tmp_path, stream, {**fields, "metadata": {"k": "v"}})
    assert run.writes == []
    assert run.counts(stream) == {"read": 1, "blocked": 1}
    assert shared.objects() == before
    assert set(re.findall(r"[a-z_]+\.[a-z_]+(?= \(|$| and)", run.rejects[0]["reason"])) >= names


@pytest.mark.parametrize(
    ("stream", "fields", "names"),
    [a for a in ATTACKS if a[1].keys() & {"items", "pause_collection", "cancel_at", "amount"}],
)
def test_what_moves_money_is_written_with_its_permission(
    world: World, tmp_path: Path, stream: str, fields: JSON, names: set[str]
) -> None:
    run = attack(world, tmp_path, stream, fields, allow_actions=sorted(names))
    assert run.counts(stream) == {"read": 1, "updated": 1}


@pytest.mark.parametrize(
    ("stream", "fields"),
    [
        ("products", {"description": "d", "metadata": {"k": "v"}}),
        ("prices", {"nickname": "n", "metadata": {"k": "v"}}),
        ("customers", {"email": "b@example.com", "address": {"city": "Ulm"}, "phone": "+1"}),
        ("customers", {"invoice_settings": {"footer": "f"}}),
        ("subscriptions", {"description": "d", "invoice_settings": {"footer": "f"}}),
        ("subscriptions", {"items": [{"metadata": {"k": "v"}}]}),
        ("subscription_items", {"metadata": {"k": "v"}}),
        ("invoices", {"description": "d", "footer": "f", "metadata": {"k": "v"}}),
        ("payment_intents", {"description": "d", "receipt_email": "b@example.com"}),
        ("charges", {"description": "d", "metadata": {"k": "v"}}),
        ("payment_methods", {"billing_details": {"email": "b@example.com"}}),
    ],
)
def test_what_is_free_needs_no_permission(
    world: World, tmp_path: Path, stream: str, fields: JSON
) -> None:
    run = attack(world, tmp_path, stream, fields)
    assert run.counts(stream) == {"read": 1, "updated": 1}


def test_all_missing_permissions_are_named_at_once(shared: World, tmp_path: Path) -> None:
    fields = {"items": X99, "cancel_at": LATER, "trial_end": LATER, ACTION: "pause"}
    run = attack(shared, tmp_path, "subscriptions", fields)
    assert run.rejects[0]["reason"] == (
        "`allow_actions` does not contain subscriptions.cancel (for cancel_at) and "
        "subscriptions.items (for items.quantity, trial_end) and subscriptions.pause"
    )


def test_one_permission_of_two_does_not_do(shared: World, tmp_path: Path) -> None:
    fields = {"items": X99, "cancel_at": LATER}
    run = attack(shared, tmp_path, "subscriptions", fields, allow_actions=["subscriptions.items"])
    assert run.writes == []


def test_items_of_a_subscription_that_sends_invoices_need_permission(
    world: World, tmp_path: Path
) -> None:
    api: Any = client_of(world.emulator).v1
    sends = {"collection_method": "send_invoice", "days_until_due": 30}
    api.subscriptions.update(world.ids["subscriptions"], sends)
    run = attack(world, tmp_path, "subscriptions", {"items": X99})
    assert (run.writes, run.counts("subscriptions")) == ([], {"read": 1, "blocked": 1})


def test_a_parameter_that_says_how_goes_along_with_money_only(world: World, tmp_path: Path) -> None:
    how = {"proration_behavior": "none"}
    run = attack(world, tmp_path, "subscriptions", {"description": "d", **how})
    assert [request.params for request in run.writes] == [{"description": ["d"]}]
    (tmp_path / "two").mkdir()
    allowed = ["subscriptions.items"]
    more = attack(
        world, tmp_path / "two", "subscriptions", {"items": X99, **how}, allow_actions=allowed
    )
    assert more.writes[0].params["proration_behavior"] == ["none"]


# ---------------------------------------------------------------------- new objects

EXTERNAL = {"id_mode": "external"}


@pytest.mark.parametrize(
    ("stream", "fields", "name"),
    [
        ("customers", {"balance": -500}, "customers.balance"),
        ("customers", {"invoice_settings": {"default_payment_method": "pm_2"}}, "customers.source"),
        ("customers", {"source": "tok_visa"}, "customers.source"),
        ("subscriptions", {"items": [{"price": "PRICE"}]}, "subscriptions.create"),
        (
            "subscriptions",
            {
                "items": [{"price": "PRICE", "quantity": 99}],
                "collection_method": "send_invoice",
                "days_until_due": 1,
            },
            "subscriptions.create",
        ),
        ("invoices", {"auto_advance": True}, "invoices.auto_advance"),
        ("invoices", {"pending_invoice_items_behavior": "include"}, "invoices.lines"),
        ("invoices", {"discounts": [{"coupon": "FREE"}]}, "invoices.discounts"),
        ("payment_intents", {"amount": 5, "currency": "usd"}, "payment_intents.create"),
        (
            "payment_intents",
            {"amount": 5, "currency": "usd", "confirm": True},
            "payment_intents.confirm",
        ),
        ("refunds", {"charge": "CHARGE"}, "refunds.create"),
        ("payouts", {"amount": 5, "currency": "usd"}, "payouts.create"),
    ],
)
def test_what_prepares_money_is_not_created_without_its_permission(
    shared: World, tmp_path: Path, stream: str, fields: JSON, name: str
) -> None:
    ids = {"PRICE": shared.ids["prices"], "CHARGE": shared.ids["charges"]}
    own: JSON = {k: ids.get(v, v) if isinstance(v, str) else v for k, v in fields.items()}
    if "items" in own:
        own["items"] = [{**entry, "price": ids["PRICE"]} for entry in own["items"]]
    if stream in ("subscriptions", "invoices"):
        own["customer"] = shared.ids["customers"]
    run = write(
        shared.emulator, tmp_path, [schema(stream, "no"), record(stream, no="1", **own)], **EXTERNAL
    )
    assert (run.writes, run.counts(stream)) == ([], {"read": 1, "blocked": 1})
    assert name in run.rejects[0]["reason"]


def test_a_new_draft_that_waits_needs_no_permission(world: World, tmp_path: Path) -> None:
    row = record("invoices", no="7", customer=world.ids["customers"], auto_advance=False)
    run = write(world.emulator, tmp_path, [schema("invoices", "no"), row], **EXTERNAL)
    assert run.counts("invoices") == {"read": 1, "created": 1}


@pytest.mark.parametrize("advances", [True, False])
def test_a_line_is_free_only_on_a_draft_that_waits(
    world: World, tmp_path: Path, *, advances: bool
) -> None:
    api: Any = client_of(world.emulator).v1
    draft = {"customer": world.ids["customers"], "auto_advance": advances}
    invoice = api.invoices.create(draft).id
    row = record("invoice_line_items", line="1", invoice=invoice, amount=99_00, description="L")
    messages = [schema("invoice_line_items", "line"), row]
    run = write(world.emulator, tmp_path, messages, **EXTERNAL)
    verdict = "blocked" if advances else "created"
    assert run.counts("invoice_line_items") == {"read": 1, verdict: 1}
    assert bool(run.writes) is not advances


@pytest.mark.parametrize(("advances", "verdict"), [(True, "blocked"), (False, "updated")])
def test_a_lines_amount_is_free_only_on_a_draft_that_waits(
    world: World, tmp_path: Path, *, advances: bool, verdict: str
) -> None:
    api: Any = client_of(world.emulator).v1
    invoice = world.ids["invoices"]
    api.invoices.update(invoice, {"auto_advance": advances})
    line = one(world.emulator, "invoices", invoice)["lines"]["data"][0]["id"]
    row = record("invoice_line_items", id=line, invoice=invoice, amount=1)
    run = write(world.emulator, tmp_path, [schema("invoice_line_items"), row])
    assert run.counts("invoice_line_items") == {"read": 1, verdict: 1}


def test_the_plan_says_of_lines_what_the_run_does(world: World, tmp_path: Path) -> None:
    messages = [
        schema("invoices", "no"),
        record("invoices", no="7", customer=world.ids["customers"]),
        schema("invoice_line_items", "line"),
        record("invoice_line_items", line="1", invoice="7", amount=5),
    ]
    planned = write(world.emulator, tmp_path, messages, dry_run=True, **EXTERNAL)
    run = write(world.emulator, tmp_path, messages, **EXTERNAL)
    for stream in ("invoices", "invoice_line_items"):
        assert planned.counts(stream) == run.counts(stream) == {"read": 1, "created": 1}


def test_a_draft_is_deleted_by_permission_only(world: World, tmp_path: Path) -> None:
    gone = {"delete_policy": "delete"}
    run = attack(world, tmp_path, "invoices", {"deleted": True}, **gone)
    assert (run.writes, run.counts("invoices")) == ([], {"read": 1, "blocked": 1})
    run = attack(
        world, tmp_path, "invoices", {"deleted": True}, allow_actions=["invoices.delete"], **gone
    )
    assert run.counts("invoices") == {"read": 1, "deleted": 1}


def test_metadata_archives_no_other_price(world: World, tmp_path: Path) -> None:
    api: Any = client_of(world.emulator).v1
    price = {"currency": "usd", "unit_amount": 5, "product": world.ids["products"]}
    other = api.prices.create(price).id
    fields = {"metadata": {"stripe_alloy_replaces": other}}
    attack(world, tmp_path, "prices", fields)
    assert one(world.emulator, "prices", other)["active"] is True


def test_a_first_default_price_replaces_none(world: World, tmp_path: Path) -> None:
    run = attack(world, tmp_path, "products", {"default_price": world.ids["prices"]})
    assert run.counts("products") == {"read": 1, "updated": 1}


def test_another_default_price_needs_permission(world: World, tmp_path: Path) -> None:
    api: Any = client_of(world.emulator).v1
    api.products.update(world.ids["products"], {"default_price": world.ids["prices"]})
    price = {"currency": "usd", "unit_amount": 5, "product": world.ids["products"]}
    run = attack(world, tmp_path, "products", {"default_price": api.prices.create(price).id})
    assert (run.writes, run.counts("products")) == ([], {"read": 1, "blocked": 1})


# ---------------------------------------------------------------------- every parameter is classed


def _leaves(shape: ParamType, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if shape.fields is not None:
        for name, inner in shape.fields.items():
            yield from _leaves(inner, (*path, name))
    elif shape.items is not None or shape.values is not None:
        inside = shape.items or shape.values
        assert inside is not None
        yield from _leaves(inside, (*path, "*"))
    else:
        yield path


def _rule(stream: str, path: tuple[str, ...]) -> Rule | None:
    node, rule = MONEY[stream].tree, None
    for name in path:
        step = node.step(name)
        if step is None:
            return rule
        node = step
        if node.rule and node.rule.action:
            rule = node.rule
    return node.rule or rule


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_every_parameter_is_classed(resource: Resource) -> None:
    paths = _leaves(resource.shape, ())
    new = [".".join(path) for path in paths if _rule(resource.stream, path) is None]
    assert not new, (
        f"the `stripe` package knows parameters of {resource.stream} that have no class: "
        f"{', '.join(new)}. They are never written. Decide in "
        "target_stripe_alloy/plan/parameter_classes.py whether "
        "each can change what someone pays, when, or whether: `free(…)` if not, else "
        "`needs(…)` with a name of `allow_actions`; then renew the table of docs/writing.md."
    )


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_no_class_is_stale(resource: Resource) -> None:
    known = list(_leaves(resource.shape, ()))
    gone = [
        ".".join(rule.path)
        for rule in MONEY[resource.stream].rules
        if not any(path[: len(rule.path)] == rule.path for path in known)
    ]
    assert not gone, f"the `stripe` package knows no {', '.join(gone)}: take it out of money.py"


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_what_is_free_is_one_parameter(resource: Resource) -> None:
    known = set(_leaves(resource.shape, ()))
    wide = [rule.path for rule in MONEY[resource.stream].rules if not rule.action]
    assert set(wide) <= known


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_no_parameter_is_classed_twice(resource: Resource) -> None:
    paths = [rule.path for rule in MONEY[resource.stream].rules]
    assert len(paths) == len(set(paths))


def test_every_stream_and_its_ends_are_classed() -> None:
    assert MONEY.keys() == {resource.stream for resource in WRITABLE}
    for resource in WRITABLE:
        classes = MONEY[resource.stream]
        assert classes.create or classes.why or not resource.create
        assert classes.delete or classes.why or not resource.deletes


def test_a_new_parameter_is_never_written(
    shared: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = MONEY["customers"]
    rules = [rule for rule in known.rules if rule.path != ("phone",)]
    classes = money.Classes(rules, known.create, known.delete)
    monkeypatch.setitem(money.MONEY, "customers", classes)
    run = attack(shared, tmp_path, "customers", {"phone": "+9"}, allow_actions=list(ALLOWED))
    assert (run.writes, run.counts("customers")) == ([], {"read": 1, "blocked": 1})
    assert "phone" in run.rejects[0]["reason"]


@pytest.mark.parametrize(
    "params",
    [
        {"novelty": "1"},
        {"name": {"novelty": "1"}},
        {"invoice_settings": {"novelty": "1"}},
        {"address": {"novelty": {"deep": "1"}}},
        {"tax_id_data": [{"novelty": "1"}]},
    ],
)
@pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE])
def test_what_has_no_class_is_never_free(params: JSON, operation: Operation) -> None:
    (name,) = needs_of(BY_STREAM["customers"], operation, params)
    assert name.startswith(UNCLASSED)


def test_earlier_names_are_still_valid() -> None:
    earlier = """customers.balance customers.delete customers.source disputes.close disputes.submit
        invoices.auto_advance invoices.create_for_subscription invoices.finalize invoices.pay
        invoices.mark_uncollectible invoices.send invoices.void payment_intents.cancel
        payment_intents.capture payment_intents.confirm payment_methods.detach payouts.cancel
        payouts.create payouts.reverse prices.replace refunds.cancel refunds.create
        subscription_items.create subscription_items.delete subscription_items.update
        subscriptions.cancel subscriptions.create subscriptions.items subscriptions.pause
        subscriptions.resume"""
    assert set(earlier.split()) <= set(ALLOWED)


# ---------------------------------------------------------------------- requests in a journal


@pytest.mark.parametrize(
    ("stream", "kind", "body", "names"),
    [
        ("refunds", "create", "charge=ch_1&metadata%5Bno%5D=7", {"refunds.create"}),
        ("customers", "create", "name=A&metadata%5Bno%5D=7", set()),
        ("customers", "update", "name=B&balance=5", {"customers.balance"}),
        ("customers", "update", "address=", set()),
        ("customers", "update", "invoice_settings=", {"customers.source"}),
        ("customers", "delete", "", {"customers.delete"}),
        ("customers", "add tax_ids", "type=eu_vat&value=1", set()),
        ("customers", "drop tax_ids", "", set()),
        ("customers", "update", "name%5B=1", {f"{UNCLASSED}customers.name["}),
        ("payment_methods", "attach", "customer=cus_1", {"payment_methods.attach"}),
        ("payment_methods", "detach", "", {"payment_methods.detach"}),
        ("invoices", "finalize", "", {"invoices.finalize"}),
        ("subscriptions", "cancel", "", {"subscriptions.cancel"}),
        ("subscriptions", "update", "items%5B0%5D%5Bid%5D=si_1&items%5B0%5D%5Bdeleted%5D=true",
         {"subscriptions.items"}),
        ("subscriptions", "update", "items%5B0%5D%5Bid%5D=si_1&items%5B0%5D%5Bmetadata%5D%5Bk%5D=v",
         set()),
        ("invoice_line_items", "create", "lines%5B0%5D%5Bamount%5D=5",
         {"invoice_line_items.create"}),
        ("prices", "replace", "unit_amount=5&transfer_lookup_key=true", {"prices.replace"}),
        ("prices", "default_price", "default_price=price_1", {"prices.replace"}),
        ("prices", "default_price", "default_price=", set()),
        ("prices", "archive", "active=false", set()),
        ("disputes", "update", "submit=false&evidence%5Bcustomer_name%5D=B", set()),
        ("disputes", "update", "submit=true", {"disputes.submit"}),
    ],
)  # fmt: skip
def test_a_request_is_asked_again(stream: str, kind: str, body: str, names: set[str]) -> None:
    assert needed_by_request(BY_STREAM[stream], kind, tree_from_form(body)) == names


@pytest.mark.parametrize("action", ["send", "pay"])
def test_what_finalizes_a_draft_needs_that_permission_too(
    account: Emulator, tmp_path: Path, action: str
) -> None:
    api = client_of(account)
    customer = account.ids("customers")[0]
    draft = api.v1.invoices.create(
        {"customer": customer, "collection_method": "send_invoice", "days_until_due": 5}
    )
    rows = [schema("invoices"), record("invoices", id=draft.id, _action=action)]
    run = write(account, tmp_path, rows, allow_actions=[f"invoices.{action}"])
    assert run.writes == []
    assert run.rejects[0]["reason"] == (
        f"`allow_actions` does not contain invoices.finalize (for {action} of a draft)"
    )
    assert api.v1.invoices.retrieve(str(draft.id)).status == "draft"


@pytest.mark.parametrize("action", ["send", "pay"])
def test_what_is_finalized_already_needs_no_permission_for_it(action: str) -> None:
    current = {"id": "in_1", "status": "open"}
    wanted = DesiredState(BY_STREAM["invoices"], {}, {}, action=action)
    assert action_needs(wanted, current) == {f"invoices.{action}": []}


def test_where_the_invoice_is_unknown_a_line_needs_its_permission() -> None:
    lines = BY_STREAM["invoice_line_items"]
    needed = {"invoice_line_items.create"}
    assert needs_of(lines, Operation.CREATE, {"amount": "5"}).keys() == needed
    draft = {"status": "draft", "auto_advance": False}
    assert not needs_of(lines, Operation.CREATE, {"amount": "5"}, parent=draft)
    soon = {**draft, "automatically_finalizes_at": LATER}
    assert needs_of(lines, Operation.CREATE, {"amount": "5"}, parent=soon).keys() == needed


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_all_that_is_needed_can_be_allowed(resource: Resource) -> None:
    names = {f"{resource.stream}.{rule.action}" for rule in MONEY[resource.stream].rules}
    names |= needs_of(resource, Operation.DELETE, {}).keys()
    names |= {f"{resource.stream}.{action}" for action in resource.actions}
    assert names - {f"{resource.stream}."} <= permissions_of(resource)


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_what_says_how_is_not_free(resource: Resource) -> None:
    for name in BEHAVIOR_PARAMS & (resource.shape.fields or {}).keys():
        rule = _rule(resource.stream, (name,))
        assert rule
        assert rule.action


names = st.sampled_from(["a", "b_c", "items", "10"])
texts = st.text("a0&=[]%+ é", min_size=1, max_size=3)
trees = st.recursive(
    st.none() | texts,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, trees, max_size=4))
def test_a_body_is_read_as_it_was_written(tree: JSON) -> None:
    assert tree_from_form(urlencode(list(form_fields(tree)))) == tree


# ---------------------------------------------------------------------- copies

COPYABLE = [resource for resource in WRITABLE if resource.create]
COPY = {"id_mode": "copy", "allow_actions": list(ALLOWED)}


@pytest.mark.parametrize("resource", COPYABLE, ids=lambda resource: resource.stream)
def test_what_a_copy_is_without_has_a_reason(resource: Resource) -> None:
    references = resource.references.items()
    never_copied = {path for path, stream in references if stream not in COPYABLE_STREAMS}
    never_copied |= resource.own_to_account | resource.ignored
    never_copied |= set(uncopied_references(resource))
    assert set(LEFT_OUT.get(resource.stream, {})) == never_copied


@pytest.mark.parametrize("resource", COPYABLE, ids=lambda resource: resource.stream)
def test_references_that_are_not_copied_are_parameters(resource: Resource) -> None:
    for path in uncopied_references(resource):
        shape: ParamType | None = resource.shape
        for name in path.split("."):
            assert shape is not None, path
            shape = shape.items if name == "*" else (shape.fields or {})[name]


@pytest.mark.parametrize("stream", READ_ONLY)
def test_what_a_copy_needs_is_read(stream: str) -> None:
    resource = BY_STREAM[stream]
    unwritable = resource.readable - (resource.shape.fields or {}).keys()
    assert READ_ONLY[stream].keys() <= unwritable | resource.expand_only


def _subscription(**more: Any) -> JSON:
    return {"id": "sub_1", "customer": "cus_1", "items": [{"id": "si_1", "price": "P"}], **more}


NOT_COPIED: list[tuple[str, JSON, str]] = [
    ("payouts", {"amount": 5, "currency": "usd", "status": "paid"}, "status"),
    ("payouts", {"amount": 5, "currency": "usd", "status": "failed"}, "status"),
    ("payouts", {"amount": 5, "currency": "usd", "status": "canceled"}, "status"),
    (
        "payouts",
        {"amount": 5, "currency": "usd", "status": "pending", "destination": "ba_1"},
        "destination",
    ),
    ("refunds", {"amount": 5, "charge": "ch_1", "status": "succeeded"}, "status"),
    ("refunds", {"amount": 5, "charge": "ch_1", "status": "failed"}, "status"),
    ("refunds", {"amount": 5, "charge": "ch_1", "status": "canceled"}, "status"),
    ("refunds", {"amount": 5, "charge": "ch_1", "status": "pending"}, "charge"),
    ("subscriptions", _subscription(discounts=["di_1"]), "discounts"),
    ("subscriptions", _subscription(default_tax_rates=[{"id": "txr_1"}]), "default_tax_rates"),
    ("subscriptions", _subscription(transfer_data={"destination": "acct_1"}), "transfer_data"),
    ("subscriptions", _subscription(on_behalf_of="acct_1"), "on_behalf_of"),
    ("subscriptions", _subscription(schedule="sub_sched_1"), "schedule"),
    ("subscriptions", _subscription(status="paused"), "status"),
    (
        "subscriptions",
        _subscription(items=[{"id": "si_1", "price": "P", "tax_rates": ["txr_1"]}]),
        "items.*.tax_rates",
    ),
    ("invoices", {"customer": "cus_1", "status": "draft", "discounts": ["di_1"]}, "discounts"),
    ("invoices", {"customer": "cus_1", "from_invoice": {"invoice": "in_0"}}, "from_invoice"),
    (
        "invoices",
        {"customer": "cus_1", "shipping_cost": {"shipping_rate": "shr_1"}},
        "shipping_cost",
    ),
    (
        "invoices",
        {"customer": "cus_1", "issuer": {"type": "account", "account": "acct_1"}},
        "issuer.account",
    ),
    ("customers", {"name": "B", "discount": {"id": "di_1"}}, "discount"),
    ("customers", {"name": "B", "test_clock": "clock_1"}, "test_clock"),
    (
        "customers",
        {"name": "B", "currency": "usd", "invoice_credit_balance": {"eur": -500}},
        "invoice_credit_balance",
    ),
    (
        "payment_intents",
        {"amount": 5, "currency": "usd", "transfer_data": {"destination": "acct_1"}},
        "transfer_data",
    ),
    ("payment_intents", {"amount": 5, "currency": "usd", "status": "requires_action"}, "status"),
]


@pytest.mark.parametrize(
    ("stream", "fields", "named"), NOT_COPIED, ids=[f"{s}-{n}" for s, _, n in NOT_COPIED]
)
def test_a_copy_is_not_made_without_what_it_needs(
    tmp_path: Path, stream: str, fields: JSON, named: str
) -> None:
    with Emulator(customers=0) as other:
        row = record(stream, **{"id": "x_1", **fields})
        run = write(other, tmp_path, [schema(stream), row], **COPY)
    assert (run.writes, run.counts(stream)) == ([], {"read": 1, "blocked": 1})
    assert named in run.rejects[0]["reason"]


@pytest.mark.parametrize("id_mode", ["external", "copy"])
def test_a_refund_of_nothing_is_never_sent(tmp_path: Path, id_mode: str) -> None:
    key = "id" if id_mode == "copy" else "no"
    row = record("refunds", **{key: "re_1"}, amount=5, metadata={"k": "v"})
    with Emulator(customers=0) as other:
        run = write(other, tmp_path, [schema("refunds", key), row], **{**COPY, "id_mode": id_mode})
    assert (run.writes, run.counts("refunds")) == ([], {"read": 1, "rejected": 1})
    assert run.rejects[0]["reason"] == "a new one needs charge or payment_intent"


def test_a_copy_keeps_what_is_harmless_to_leave_out(tmp_path: Path) -> None:
    fields = {"name": "B", "invoice_settings": {"default_payment_method": "pm_1", "footer": "f"}}
    with Emulator(customers=0) as other:
        row = record("customers", id="cus_1", **fields)
        run = write(other, tmp_path, [schema("customers"), row], id_mode="copy")
        assert other.objects("customers")[0]["invoice_settings"]["footer"] == "f"
    assert run.counts("customers") == {"read": 1, "created": 1}


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"discounts": ["di_1"], "description": "d"}, "updated"),
        ({"discounts": [{"coupon": "FREE"}, "di_1"]}, "blocked"),
    ],
)
def test_of_a_copy_that_is_there_nothing_changes_that_would_lack_something(
    world: World, tmp_path: Path, fields: JSON, verdict: str
) -> None:
    api: Any = client_of(world.emulator).v1
    stamp = {"metadata": {"stripe_alloy_copy_of": "sub_1"}}
    api.subscriptions.update(world.ids["subscriptions"], stamp)
    row = record("subscriptions", id="sub_1", **fields)
    run = write(world.emulator, tmp_path, [schema("subscriptions"), row], **COPY)
    assert run.counts("subscriptions") == {"read": 1, verdict: 1}
