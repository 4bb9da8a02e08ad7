"""Writing customers, tax ids and payment methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from tests.emulator.helpers import NOW, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator
    from tests.emulator.helpers import Events


@pytest.fixture
def customer(api: stripe.StripeClient) -> stripe.Customer:
    return api.v1.customers.create(
        {
            "name": "Ada",
            "email": "ada@example.com",
            "address": {"city": "Paris", "country": "FR"},
            "metadata": {"a": "1", "b": "2"},
        }
    )


def test_create_gives_the_whole_object(api: stripe.StripeClient, emu: Emulator) -> None:
    made = api.v1.customers.create({"name": "Ada"})
    assert emu.objects("customers")[0] == made.to_dict()


def test_create_is_stamped_by_the_clock(customer: stripe.Customer) -> None:
    assert customer.created == NOW


def test_create_tells(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.customers.create({"name": "Ada"})
    assert events.one("customer.created")["data"] == {"object": made.to_dict()}


def test_update_tells_exactly_what_changed(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    api.v1.customers.update(customer.id, {"name": "Eve", "email": "ada@example.com"})
    assert events.previous("customer.updated") == {"name": "Ada"}


def test_update_without_a_change_tells_nothing(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    api.v1.customers.update(customer.id, {"name": "Ada"})
    assert events.types() == []


def test_an_empty_string_clears(api: stripe.StripeClient, customer: stripe.Customer) -> None:
    assert api.v1.customers.update(customer.id, {"name": ""}).name is None


def test_a_hash_is_cleared_as_a_whole(api: stripe.StripeClient, customer: stripe.Customer) -> None:
    assert api.v1.customers.update(customer.id, {"address": ""}).address is None


def test_hashes_merge(api: stripe.StripeClient, customer: stripe.Customer) -> None:
    found = api.v1.customers.update(customer.id, {"address": {"line1": "Quai 1"}})
    assert found.address is not None
    assert (found.address.city, found.address.line1) == ("Paris", "Quai 1")


def test_hashes_are_told_field_by_field(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    api.v1.customers.update(customer.id, {"address": {"city": "Lyon"}})
    assert events.previous("customer.updated") == {"address": {"city": "Paris"}}


def test_metadata_merges(api: stripe.StripeClient, customer: stripe.Customer) -> None:
    found = api.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}})
    assert found.metadata is not None
    assert found.metadata.to_dict() == {"a": "1", "c": "3"}


def test_metadata_is_told_key_by_key(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    api.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}})
    assert events.previous("customer.updated") == {"metadata": {"b": "2", "c": None}}


def test_all_metadata_can_be_removed(api: stripe.StripeClient, customer: stripe.Customer) -> None:
    found = api.v1.customers.update(customer.id, {"metadata": ""}).metadata
    assert found is not None
    assert found.to_dict() == {}


def test_metadata_has_at_most_fifty_keys(
    api: stripe.StripeClient, customer: stripe.Customer
) -> None:
    with refused(400, None, "metadata"):
        api.v1.customers.update(customer.id, {"metadata": {f"k{n}": "x" for n in range(49)}})


@pytest.mark.parametrize("metadata", [{"k" * 41: "x"}, {"k": "x" * 501}])
def test_metadata_is_limited_in_size(api: stripe.StripeClient, metadata: dict[str, str]) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="can have up to"):
        api.v1.customers.create({"metadata": metadata})


def test_metadata_keys_may_be_numbers(api: stripe.StripeClient) -> None:
    made = api.v1.customers.create({"metadata": {"0": "x", "7": "y"}})
    assert made.metadata is not None
    assert made.metadata.to_dict() == {"0": "x", "7": "y"}


def test_unknown_parameters_are_refused(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_unknown", "nam"):
        api.raw_request("post", "/v1/customers", nam="x")


def test_unknown_nested_parameters_are_refused(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_unknown", "address[town]"):
        api.raw_request("post", "/v1/customers", address={"town": "x"})


def test_values_are_coerced(api: stripe.StripeClient) -> None:
    assert api.v1.customers.create({"balance": -500}).balance == -500


def test_integers_must_be_integers(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_invalid_integer", "balance"):
        api.raw_request("post", "/v1/customers", balance="1.5")


def test_choices_are_checked(api: stripe.StripeClient) -> None:
    with refused(400, None, "tax_exempt"):
        api.raw_request("post", "/v1/customers", tax_exempt="maybe")


def test_delete_leaves_a_tombstone(api: stripe.StripeClient, customer: stripe.Customer) -> None:
    api.v1.customers.delete(customer.id)
    found = api.v1.customers.retrieve(customer.id).to_dict()
    assert found == {"id": customer.id, "object": "customer", "deleted": True}


def test_delete_tells_the_last_state(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    api.v1.customers.delete(customer.id)
    assert events.one("customer.deleted")["data"]["object"] == customer.to_dict()


def test_deleted_customers_leave_the_list(
    api: stripe.StripeClient, customer: stripe.Customer, emu: Emulator
) -> None:
    api.v1.customers.delete(customer.id)
    assert customer.id not in emu.ids("customers")


def test_deleted_customers_cannot_be_updated(
    api: stripe.StripeClient, customer: stripe.Customer
) -> None:
    api.v1.customers.delete(customer.id)
    with refused(404, "resource_missing", "id"):
        api.v1.customers.update(customer.id, {"name": "x"})


def test_delete_cancels_subscriptions(
    api: stripe.StripeClient, emu: Emulator, events: Events
) -> None:
    subscription = next(s for s in emu.objects("subscriptions") if s["status"] == "active")
    api.v1.customers.delete(subscription["customer"])
    assert "customer.subscription.deleted" in events.types()
    assert api.v1.subscriptions.retrieve(subscription["id"]).status == "canceled"


# ---------------------------------------------------------------------- tax ids


def test_tax_ids_come_with_a_new_customer(api: stripe.StripeClient) -> None:
    entry: dict[str, str] = {"type": "eu_vat", "value": "DE123"}
    made = api.raw_request("post", "/v1/customers", tax_id_data=[entry], expand=["tax_ids"])
    assert [row["value"] for row in made.data["tax_ids"]["data"]] == ["DE123"]


def test_tax_ids_can_be_added(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    made = api.v1.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123"})
    assert events.types() == ["customer.tax_id.created"]
    assert [row.id for row in api.v1.customers.tax_ids.list(customer.id).data] == [made.id]


def test_tax_ids_can_be_deleted(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    made = api.v1.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123"})
    api.v1.customers.tax_ids.delete(customer.id, made.id)
    assert events.types()[-1] == "customer.tax_id.deleted"
    assert not api.v1.customers.tax_ids.list(customer.id).data


# ---------------------------------------------------------------------- payment methods


def test_a_test_card_can_be_attached(
    api: stripe.StripeClient, customer: stripe.Customer, events: Events
) -> None:
    method = api.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    assert (method.customer, method.card.last4 if method.card else None) == (customer.id, "4242")
    assert events.types() == ["payment_method.attached"]


def test_a_card_can_be_created(api: stripe.StripeClient, events: Events) -> None:
    card: stripe.params.PaymentMethodCreateParamsCard = {
        "number": "5555555555554444",
        "exp_month": 3,
        "exp_year": 2031,
    }
    made = api.v1.payment_methods.create({"type": "card", "card": card})
    assert made.card is not None
    assert (made.card.brand, made.card.last4, made.card.exp_year) == ("mastercard", "4444", 2031)
    assert events.types() == []


def test_a_token_makes_a_card(api: stripe.StripeClient) -> None:
    made = api.v1.payment_methods.create({"type": "card", "card": {"token": "tok_amex"}})
    assert made.card is not None
    assert made.card.brand == "amex"


def test_a_payment_method_belongs_to_one_customer(
    api: stripe.StripeClient, customer: stripe.Customer, emu: Emulator
) -> None:
    taken = next(m for m in emu.objects("payment_methods") if m["customer"])
    with refused(400, "payment_method_unexpected_state"):
        api.v1.payment_methods.attach(taken["id"], {"customer": customer.id})


def test_an_attached_method_can_be_updated(
    api: stripe.StripeClient, emu: Emulator, events: Events
) -> None:
    card = next(m for m in emu.objects("payment_methods") if m["customer"] and "card" in m)
    api.v1.payment_methods.update(card["id"], {"card": {"exp_year": 2040}})
    old = card["card"]["exp_year"]
    assert events.previous("payment_method.updated") == {"card": {"exp_year": old}}


def test_a_detached_method_cannot_be_updated(api: stripe.StripeClient) -> None:
    made = api.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    with refused(400, "payment_method_unexpected_state"):
        api.v1.payment_methods.update(made.id, {"metadata": {"a": "b"}})


def test_detach_names_the_former_customer(
    api: stripe.StripeClient, emu: Emulator, events: Events
) -> None:
    method = next(m for m in emu.objects("payment_methods") if m["customer"])
    assert api.v1.payment_methods.detach(method["id"]).customer is None
    assert events.previous("payment_method.detached") == {"customer": method["customer"]}


def test_detach_unsets_the_default(api: stripe.StripeClient, emu: Emulator) -> None:
    method = next(m for m in emu.objects("payment_methods") if m["customer"])
    api.v1.payment_methods.detach(method["id"])
    owner = api.v1.customers.retrieve(method["customer"])
    assert owner.invoice_settings is not None
    assert owner.invoice_settings.default_payment_method is None


def test_a_default_must_be_the_customers_own(
    api: stripe.StripeClient, customer: stripe.Customer, emu: Emulator
) -> None:
    other = emu.ids("payment_methods")[0]
    with refused(400, "resource_missing", "invoice_settings[default_payment_method]"):
        api.v1.customers.update(
            customer.id, {"invoice_settings": {"default_payment_method": other}}
        )


def test_a_test_card_is_attached_and_default_at_once(
    api: stripe.StripeClient, events: Events
) -> None:
    settings: Any = {"default_payment_method": "pm_card_visa"}
    made = api.v1.customers.create({"payment_method": "pm_card_visa", "invoice_settings": settings})
    default = made.to_dict()["invoice_settings"]["default_payment_method"]
    [method] = api.v1.customers.payment_methods.list(made.id).data
    assert default == method.id
    assert events.one("customer.created")["data"]["object"]["invoice_settings"] == {
        **made.to_dict()["invoice_settings"]
    }


def test_a_test_card_that_is_not_attached_is_no_default(api: stripe.StripeClient) -> None:
    settings: Any = {"default_payment_method": "pm_card_visa"}
    with refused(400, "resource_missing", "invoice_settings[default_payment_method]"):
        api.v1.customers.create(
            {"payment_method": "pm_card_mastercard", "invoice_settings": settings}
        )
