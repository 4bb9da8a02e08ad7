"""What becomes of records: in their own account, copied into another, with keys of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.plan.plan_types import REPLACES
from target_stripe_alloy.plan.record_keys import COPY_OF
from target_stripe_alloy.write.record_writer import ConflictError
from tests.conftest import config_of, read
from tests.emulator.helpers import client_of
from tests.target.helpers import Run, one, record, schema, state, write

CATALOG = ("products", "prices", "customers", "subscriptions", "subscription_items")
COPYING = {"id_mode": "copy", "allow_actions": ["subscriptions.create"]}
EXPAND = {"prices": ["tiers", "currency_options"]}


def customer_of(emulator: Emulator) -> dict[str, Any]:
    return emulator.objects("customers")[0]


# ---------------------------------------------------------------------- the same account


def test_the_taps_own_output_writes_nothing(account: Emulator, tmp_path: Path) -> None:
    output = read(config_of(account))
    first = write(account, tmp_path, output.messages)
    assert first.writes == []
    for stream, counts in first.summary.items():
        assert counts["unchanged"] == counts["read"] == len(output.records[stream])
    assert first.states[-1] == output.state
    second = write(account, tmp_path, output.messages)
    assert [request.path for request in second.requests] == ["/v1/account"]
    assert second.summary == first.summary


def test_expanded_output_writes_nothing_either(account: Emulator, tmp_path: Path) -> None:
    expand = {
        "charges": ["customer", "balance_transaction"],
        "customers": ["tax_ids", "invoice_settings.default_payment_method"],
        "prices": ["product", "tiers", "currency_options"],
        "subscriptions": ["customer", "discounts"],
    }
    output = read(config_of(account, expand=expand, timestamps="unix"), *expand)
    run = write(account, tmp_path, output.messages)
    assert run.writes == []
    assert run.rejects == []
    assert all(counts["unchanged"] == counts["read"] for counts in run.summary.values())


def test_only_what_differs_is_sent(account: Emulator, tmp_path: Path) -> None:
    customer = customer_of(account)
    changed = record("customers", id=customer["id"], name=customer["name"], email="new@example.com")
    run = write(account, tmp_path, [schema("customers"), changed])
    assert [(w.path, w.params) for w in run.writes] == [
        (f"/v1/customers/{customer['id']}", {"email": ["new@example.com"]})
    ]
    assert run.counts("customers") == {"read": 1, "updated": 1}


def test_an_unknown_id_is_rejected_and_never_created(account: Emulator, tmp_path: Path) -> None:
    run = write(
        account, tmp_path, [schema("customers"), record("customers", id="cus_no", name="A")]
    )
    assert run.writes == []
    assert run.counts("customers") == {"read": 1, "rejected": 1}
    assert "no such object" in run.rejects[0]["reason"]


def test_a_to_b_to_a_within_a_minute_ends_at_a(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    for name in ("A", "B", "A"):
        write(account, tmp_path, [schema("customers"), record("customers", id=found, name=name)])
    assert one(account, "customers", found)["name"] == "A"
    names = [record("customers", id=found, name=name) for name in ("B", "A", "B", "A")]
    run = write(account, tmp_path, [schema("customers"), *names])
    assert one(account, "customers", found)["name"] == "A"
    assert len(run.writes) == 4


def test_null_clears_and_absence_does_not(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    api = client_of(account)
    api.v1.customers.update(found, {"description": "d", "phone": "+1", "metadata": {"a": "1"}})
    cleared = record("customers", id=found, description=None, metadata={"a": None, "b": "2"})
    write(account, tmp_path, [schema("customers"), cleared])
    after = one(account, "customers", found)
    assert (after["description"], after["phone"], after["metadata"].get("a")) == (None, "+1", None)
    assert after["metadata"]["b"] == "2"


def test_a_metadata_key_that_left_the_record_is_unset(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    client_of(account).v1.customers.update(found, {"metadata": {"theirs": "1"}})
    for metadata in ({"a": "1", "b": "2"}, {"a": "1"}):
        row = record("customers", id=found, metadata=metadata)
        write(account, tmp_path, [schema("customers"), row])
    held = one(account, "customers", found)["metadata"]
    assert "b" not in held
    assert (held["a"], held["theirs"]) == ("1", "1")


def test_partial_metadata_unsets_nothing(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    partial = schema("customers", metadata={"type": "object", "properties": {"a": {}}})
    for metadata in ({"a": "1", "b": "2"}, {"a": "3"}):
        write(account, tmp_path, [partial, record("customers", id=found, metadata=metadata)])
    held = one(account, "customers", found)["metadata"]
    assert (held["a"], held["b"]) == ("3", "2")


@pytest.mark.parametrize(
    ("setting", "name", "phone", "count"),
    [
        ("skip", "Theirs", None, "conflict"),
        ("overwrite", "Ours", "+2", "updated"),
        ("merge", "Theirs", "+2", "updated"),
    ],
)
def test_a_field_changed_on_both_sides(
    account: Emulator, tmp_path: Path, setting: str, name: str, phone: str | None, count: str
) -> None:
    found = customer_of(account)["id"]
    api = client_of(account)
    api.v1.customers.update(found, {"phone": ""})
    row = record("customers", id=found, name="Base", phone=None)
    write(account, tmp_path, [schema("customers"), row])
    api.v1.customers.update(found, {"name": "Theirs"})
    row = record("customers", id=found, name="Ours", phone="+2")
    run = write(account, tmp_path, [schema("customers"), row], on_conflict=setting)
    after = one(account, "customers", found)
    assert (after["name"], after["phone"]) == (name, phone)
    assert run.counts("customers") == {"read": 1, count: 1}


def test_a_conflict_stops_the_run_unless_told_otherwise(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    write(account, tmp_path, [schema("customers"), record("customers", id=found, name="Base")])
    client_of(account).v1.customers.update(found, {"name": "Theirs"})
    row = record("customers", id=found, name="Ours")
    with pytest.raises(ConflictError, match=f"{found}: name changed in Stripe as well"):
        write(account, tmp_path, [schema("customers"), row, state(done=True)])
    assert one(account, "customers", found)["name"] == "Theirs"


def test_tax_ids_are_added_and_deleted_one_by_one(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    theirs = client_of(account).v1.customers.tax_ids.create(
        found, {"type": "eu_vat", "value": "DE000000001"}
    )
    two = [{"type": "eu_vat", "value": f"DE12345678{n}"} for n in (1, 2)]
    for tax_ids in (two, two[:1]):
        row = record("customers", id=found, tax_ids=tax_ids)
        run = write(account, tmp_path, [schema("customers"), row])
        assert run.counts("customers") == {"read": 1, "updated": 1}
    listed = client_of(account).v1.customers.tax_ids.list(found).data
    assert {entry.value for entry in listed} >= {theirs.value, "DE123456781"}
    assert "DE123456782" not in {entry.value for entry in listed}
    assert write(account, tmp_path, [schema("customers"), row]).writes == []


def test_what_only_they_changed_stays(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    rows = [record("customers", id=found, name="Base", phone=p) for p in ("+1", "+2")]
    write(account, tmp_path, [schema("customers"), rows[0]])
    client_of(account).v1.customers.update(found, {"name": "Theirs"})
    write(account, tmp_path, [schema("customers"), rows[1]])
    after = one(account, "customers", found)
    assert (after["name"], after["phone"]) == ("Theirs", "+2")


def test_what_stripe_never_changes_is_blocked_with_the_reason(
    account: Emulator, tmp_path: Path
) -> None:
    charge = account.objects("charges")[0]
    row = record("charges", id=charge["id"], amount=charge["amount"] + 1)
    run = write(account, tmp_path, [schema("charges"), row])
    assert run.writes == []
    assert run.counts("charges") == {"read": 1, "blocked": 1}
    assert "amount" in run.rejects[0]["reason"]


def test_a_disputes_evidence_is_never_submitted_by_the_way(
    account: Emulator, tmp_path: Path
) -> None:
    charge = next(c for c in account.objects("charges") if c["status"] == "succeeded")
    assert charge
    disputes = [d for d in account.objects("disputes") if d["status"] == "needs_response"]
    dispute = disputes[0] if disputes else account.objects("disputes")[0]
    row = record("disputes", id=dispute["id"], metadata={"case": "7"})
    run = write(account, tmp_path, [schema("disputes"), row])
    assert run.writes[0].params["submit"] == ["false"]
    assert one(account, "disputes", dispute["id"])["status"] == dispute["status"]


# ---------------------------------------------------------------------- the end of objects


def product_without_prices(emulator: Emulator) -> str:
    return str(client_of(emulator).v1.products.create({"name": "Empty"}).id)


@pytest.mark.parametrize(
    ("policy", "count"), [("ignore", "unchanged"), ("archive", "archived"), ("delete", "deleted")]
)
def test_a_tombstone_does_what_the_policy_says(
    account: Emulator, tmp_path: Path, policy: str, count: str
) -> None:
    found = product_without_prices(account)
    row = record("products", id=found, deleted=True)
    run = write(account, tmp_path, [schema("products"), row], delete_policy=policy)
    assert run.counts("products") == {"read": 1, count: 1}
    left = [product for product in account.objects("products") if product["id"] == found]
    assert [product["active"] for product in left] == {
        "ignore": [True],
        "archive": [False],
        "delete": [],
    }[policy]
    again = write(account, tmp_path, [schema("products"), row], delete_policy=policy)
    assert again.writes == []


def test_a_product_with_prices_is_archived_instead(account: Emulator, tmp_path: Path) -> None:
    found = account.objects("prices")[0]["product"]
    row = record("products", id=found, deleted=True)
    run = write(account, tmp_path, [schema("products"), row], delete_policy="delete")
    assert run.counts("products") == {"read": 1, "archived": 1}
    assert one(account, "products", found)["active"] is False


def test_customers_are_deleted_by_permission_only(account: Emulator, tmp_path: Path) -> None:
    found = customer_of(account)["id"]
    messages = [schema("customers"), record("customers", id=found, deleted=True)]
    run = write(account, tmp_path, messages, delete_policy="delete")
    assert run.counts("customers") == {"read": 1, "blocked": 1}
    assert "customers.delete" in run.rejects[0]["reason"]
    allowed = ["customers.delete"]
    run = write(account, tmp_path, messages, delete_policy="delete", allow_actions=allowed)
    assert run.counts("customers") == {"read": 1, "deleted": 1}
    assert found not in account.ids("customers")


# ---------------------------------------------------------------------- prices


def priced(emulator: Emulator) -> dict[str, Any]:
    return next(
        price
        for price in emulator.objects("prices")
        if price["lookup_key"]
        and price["active"]
        and one(emulator, "products", price["product"])["default_price"] == price["id"]
    )


def test_a_changed_amount_is_a_new_price_in_the_old_ones_place(
    account: Emulator, tmp_path: Path
) -> None:
    old = priced(account)
    row = record("prices", id=old["id"], unit_amount=old["unit_amount"] + 100)
    blocked = write(account, tmp_path, [schema("prices"), row])
    assert blocked.counts("prices") == {"read": 1, "blocked": 1}
    allowed = {"allow_actions": ["prices.replace"]}
    write(account, tmp_path, [schema("prices"), row], **allowed)
    new = next(p for p in account.objects("prices") if p["metadata"].get(REPLACES) == old["id"])
    assert new["unit_amount"] == old["unit_amount"] + 100
    assert new["lookup_key"] == old["lookup_key"]
    assert (new["recurring"] or {}).get("interval") == (old["recurring"] or {}).get("interval")
    assert one(account, "prices", old["id"])["active"] is False
    assert one(account, "products", old["product"])["default_price"] == new["id"]
    again = write(account, tmp_path, [schema("prices"), row], **allowed)
    assert again.writes == []
    assert again.counts("prices") == {"read": 1, "unchanged": 1}


def test_a_replaced_price_is_found_again_without_the_journal(
    account: Emulator, tmp_path: Path
) -> None:
    old = priced(account)
    row = record("prices", id=old["id"], unit_amount=old["unit_amount"] + 100)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        allowed = ["prices.replace"]
        write(account, tmp_path / folder, [schema("prices"), row], allow_actions=allowed)
    made = [p for p in account.objects("prices") if p["metadata"].get(REPLACES) == old["id"]]
    assert len(made) == 1


def test_a_default_price_is_archived_all_the_same(account: Emulator, tmp_path: Path) -> None:
    price = priced(account)
    gone = record("prices", id=price["id"], deleted=True)
    run = write(account, tmp_path, [schema("prices"), gone], delete_policy="archive")
    assert run.counts("prices") == {"read": 1, "archived": 1}
    assert one(account, "prices", price["id"])["active"] is False
    assert one(account, "products", price["product"])["default_price"] is None


# ---------------------------------------------------------------------- subscriptions


def test_a_new_quantity_needs_the_permission(account: Emulator, tmp_path: Path) -> None:
    item = next(i for i in account.objects("subscription_items") if i["quantity"])
    items = {"object": "list", "data": [{"id": item["id"], "quantity": 7}], "has_more": False}
    row = record("subscriptions", id=item["subscription"], items=items)
    run = write(account, tmp_path, [schema("subscriptions"), row])
    assert run.writes == []
    subscription = one(account, "subscriptions", item["subscription"])
    if subscription["collection_method"] == "charge_automatically":
        assert "subscriptions.items" in run.rejects[0]["reason"]
    allowed = ["subscriptions.items"]
    active = subscription["status"] in ("active", "trialing", "past_due")
    run = write(account, tmp_path, [schema("subscriptions"), row], allow_actions=allowed)
    if active:
        assert run.writes[0].params == {
            "items[0][id]": [item["id"]],
            "items[0][quantity]": ["7"],
        }


def test_an_action_is_asked_for_allowed_and_done_once(account: Emulator, tmp_path: Path) -> None:
    api = client_of(account)
    customer = customer_of(account)["id"]
    invoice = api.v1.invoices.create({"customer": customer}).id
    messages = [schema("invoices"), record("invoices", id=invoice, _action="finalize")]
    blocked = write(account, tmp_path, messages)
    assert blocked.counts("invoices") == {"read": 1, "blocked": 1}
    allowed = ["invoices.finalize"]
    first = write(account, tmp_path, messages, allow_actions=allowed)
    assert [w.path for w in first.writes] == [f"/v1/invoices/{invoice}/finalize"]
    second = write(account, tmp_path, messages, allow_actions=allowed)
    assert second.writes == []


def test_an_action_on_a_new_object_follows_its_creation(empty: Emulator, tmp_path: Path) -> None:
    customer = client_of(empty).v1.customers.create({"name": "A"}).id
    new = record("invoices", no="7", customer=customer, _action="finalize")
    messages = [schema("invoices", "no"), new]
    blocked = write(empty, tmp_path, messages, id_mode="external")
    assert blocked.writes == []
    allowed = {"id_mode": "external", "allow_actions": ["invoices.finalize"]}
    run = write(empty, tmp_path, messages, **allowed)
    assert run.counts("invoices") == {"read": 1, "created": 1}
    assert empty.objects("invoices")[0]["status"] in ("open", "paid")
    assert write(empty, tmp_path, messages, **allowed).writes == []


def test_lines_are_added_to_their_invoice_once(empty: Emulator, tmp_path: Path) -> None:
    messages = [
        schema("invoice_line_items", "line"),
        *(
            record("invoice_line_items", line=n, invoice="7", amount=100 * n, description=f"L{n}")
            for n in (1, 2, 3)
        ),
        schema("invoices", "no"),
        record("invoices", no="7", customer="c"),
        schema("customers", "crm"),
        record("customers", crm="c", name="A"),
    ]
    for folder in ("one", "two", "two"):
        (tmp_path / folder).mkdir(exist_ok=True)
        write(empty, tmp_path / folder, messages, id_mode="external")
    lines = empty.objects("invoice_line_items")
    assert sorted(line["amount"] for line in lines) == [100, 200, 300]
    changed = record("invoice_line_items", line=2, invoice="7", amount=250)
    run = write(empty, tmp_path / "two", [messages[0], changed], id_mode="external")
    assert run.counts("invoice_line_items") == {"read": 1, "updated": 1}
    assert sorted(line["amount"] for line in empty.objects("invoice_line_items")) == [100, 250, 300]


def test_a_status_never_acts(account: Emulator, tmp_path: Path) -> None:
    invoice = client_of(account).v1.invoices.create({"customer": customer_of(account)["id"]}).id
    row = record("invoices", id=invoice, status="paid")
    run = write(account, tmp_path, [schema("invoices"), row])
    assert run.writes == []
    assert run.counts("invoices") == {"read": 1, "blocked": 1}


# ---------------------------------------------------------------------- a copy


@pytest.fixture
def other() -> Iterator[Emulator]:
    with Emulator(customers=0) as emulator:
        yield emulator


def give_cards(emulator: Emulator) -> None:
    """What Stripe does when it moves cards between accounts."""
    api = client_of(emulator)
    for customer in emulator.ids("customers"):
        card = api.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
        settings: Any = {"invoice_settings": {"default_payment_method": card.id}}
        api.v1.customers.update(customer, settings)


def copied(account: Emulator, other: Emulator, folder: Path) -> tuple[list[dict[str, Any]], Run]:
    messages = read(config_of(account, expand=EXPAND), *CATALOG).messages
    write(other, folder, messages, id_mode="copy")
    give_cards(other)
    return messages, write(other, folder, messages, **COPYING)


def test_a_business_arrives_in_another_account(
    account: Emulator, other: Emulator, tmp_path: Path
) -> None:
    messages, run = copied(account, other, tmp_path)
    over = {"canceled", "incomplete_expired"}
    alive = [s for s in account.objects("subscriptions") if s["status"] not in over]
    assert run.counts("subscriptions") == {
        "read": account.count("subscriptions"),
        "created": len(alive),
        "blocked": account.count("subscriptions") - len(alive),
    }
    again = write(other, tmp_path, messages, **COPYING)
    assert again.writes == []
    assert business(read(config_of(other, expand=EXPAND), *CATALOG).records) == business(
        read(config_of(account, expand=EXPAND), *CATALOG).records, only=over
    )


def business(records: dict[str, list[dict[str, Any]]], only: set[str] | None = None) -> Any:
    """What a business is, whatever the ids: without what has ended, and without stamps."""
    emails = {c["id"]: c["email"] for c in records["customers"]}
    prices = {p["id"]: (p["lookup_key"], p["nickname"]) for p in records["prices"]}
    products = {p["id"]: p["name"] for p in records["products"]}

    def own(metadata: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in metadata.items() if name != COPY_OF}

    def rest(tier: dict[str, Any]) -> str:
        return str(sorted(tier.items()))

    def line(item: dict[str, Any]) -> Any:
        return (prices[item["price"]["id"]], item["quantity"], tuple(own(item["metadata"]).items()))

    return {
        "products": sorted(
            f"{p['name']} {p['active']} {prices.get(p['default_price'])} {p['metadata']}"
            for p in records["products"]
        ),
        "prices": sorted(
            f"{products[p['product']]} {p['currency']} {p['unit_amount']} {p['recurring']} "
            f"{p['lookup_key']} {p['active']} {sorted(map(rest, p.get('tiers') or ()))}"
            for p in records["prices"]
        ),
        "customers": sorted(
            f"{c['email']} {c['name']} {c['address']} {own(c['metadata'])}"
            for c in records["customers"]
        ),
        "subscriptions": sorted(
            f"{emails.get(s['customer'])} {s['collection_method']} {s['currency']} "
            f"{sorted(map(str, map(line, s['items']['data'])))}"
            for s in records["subscriptions"]
            if not only or s["status"] not in only
        ),
    }


def test_records_may_come_before_what_they_refer_to(
    account: Emulator, other: Emulator, tmp_path: Path
) -> None:
    output = read(config_of(account, expand=EXPAND), "products", "prices")
    schemas = [m for m in output.messages if m["type"] == "SCHEMA"]
    rows = [m for m in output.messages if m["type"] == "RECORD"]
    backwards = sorted(rows, key=lambda m: m["stream"])  # prices, then products
    run = write(other, tmp_path, [*schemas, *backwards, state(done=1)], id_mode="copy")
    assert run.counts("prices")["created"] == account.count("prices")
    assert run.counts("products")["created"] == account.count("products")
    assert run.states == [{"done": 1}]
    defaults = {p["name"]: bool(p["default_price"]) for p in account.objects("products")}
    assert {p["name"]: bool(p["default_price"]) for p in other.objects("products")} == defaults


def test_what_refers_to_nothing_is_rejected_at_the_end(other: Emulator, tmp_path: Path) -> None:
    price = record("prices", id="price_1", product="prod_no", currency="eur", unit_amount=5)
    run = write(other, tmp_path, [schema("prices"), price], id_mode="copy")
    assert run.counts("prices") == {"read": 1, "rejected": 1}
    assert "products prod_no" in run.rejects[0]["reason"]


def test_a_copy_without_its_journal_finds_what_is_there(
    account: Emulator, other: Emulator, tmp_path: Path
) -> None:
    output = read(config_of(account, expand=EXPAND), "products", "prices", "customers")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        run = write(other, tmp_path / folder, output.messages, id_mode="copy")
    assert run.writes == []
    for kind in ("products", "prices", "customers"):
        assert other.count(kind) == account.count(kind)


# ---------------------------------------------------------------------- keys of the user's


def test_the_users_own_key_is_stamped_and_found_again(empty: Emulator, tmp_path: Path) -> None:
    messages = [
        schema("customers", "crm_id"),
        *(record("customers", crm_id=n, name=f"C{n}", email="same@example.com") for n in (1, 2)),
    ]
    external = {"id_mode": "external"}
    run = write(empty, tmp_path, messages, **external)
    assert run.counts("customers") == {"read": 2, "created": 2}
    assert {c["metadata"]["crm_id"]: c["name"] for c in empty.objects("customers")} == {
        "1": "C1",
        "2": "C2",
    }
    (tmp_path / "elsewhere").mkdir()
    messages.append(record("customers", crm_id=2, name="New"))
    run = write(empty, tmp_path / "elsewhere", messages, **external)
    assert run.counts("customers") == {"read": 3, "unchanged": 2, "updated": 1}
    assert empty.count("customers") == 2
    assert not [request for request in empty.requests if "search" in request.path]


def test_a_field_that_stripe_does_not_know_is_named(empty: Emulator, tmp_path: Path) -> None:
    row = record("customers", crm_id="7", name="A", score=3)
    messages = [schema("customers", "crm_id"), row]
    run = write(empty, tmp_path, messages, id_mode="external")
    assert run.counts("customers") == {"read": 1, "blocked": 1}
    assert "score" in run.rejects[0]["reason"]


def test_external_records_refer_by_their_own_keys(empty: Emulator, tmp_path: Path) -> None:
    messages = [
        schema("prices", "sku"),
        record("prices", sku="p1", product="tea", currency="eur", unit_amount=500),
        schema("products", "code"),
        record("products", code="tea", name="Tea"),
    ]
    write(empty, tmp_path, messages, id_mode="external")
    assert empty.objects("prices")[0]["product"] == empty.objects("products")[0]["id"]
