"""Writing products, prices and coupons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import stripe

from tests.emulator.helpers import NOW, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator
    from tests.emulator.helpers import Events


@pytest.fixture
def product(api: stripe.StripeClient) -> stripe.Product:
    return api.v1.products.create({"name": "Probe", "id": "prod_probe"})


@pytest.fixture
def price(api: stripe.StripeClient, product: stripe.Product) -> stripe.Price:
    return api.v1.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 500, "lookup_key": "probe"}
    )


def test_a_product_may_choose_its_id(product: stripe.Product) -> None:
    assert product.id == "prod_probe"


def test_an_id_is_taken_once(api: stripe.StripeClient, product: stripe.Product) -> None:
    with refused(400, "resource_already_exists", "id"):
        api.v1.products.create({"name": "Probe", "id": product.id})


def test_a_product_needs_a_name(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_missing", "name"):
        api.raw_request("post", "/v1/products")


def test_a_product_knows_when_it_changed(
    api: stripe.StripeClient, product: stripe.Product, emu: Emulator
) -> None:
    emu.clock_advance(60)
    assert api.v1.products.update(product.id, {"name": "Sonde"}).updated == NOW + 60


def test_a_changed_product_tells(
    api: stripe.StripeClient, product: stripe.Product, emu: Emulator, events: Events
) -> None:
    emu.clock_advance(60)
    api.v1.products.update(product.id, {"active": False})
    assert events.previous("product.updated") == {"active": True, "updated": NOW}


def test_a_product_may_bring_its_price(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.products.create(
        {"name": "x", "default_price_data": {"currency": "eur", "unit_amount": 700}}
    )
    assert isinstance(made.default_price, str)
    assert api.v1.prices.retrieve(made.default_price).unit_amount == 700
    assert events.types() == ["product.created", "price.created", "product.updated"]


def test_a_product_without_prices_can_be_deleted(
    api: stripe.StripeClient, product: stripe.Product, events: Events
) -> None:
    api.v1.products.delete(product.id)
    assert events.types() == ["product.deleted"]
    found = api.v1.products.retrieve(product.id).to_dict()
    assert found == {"id": product.id, "object": "product", "deleted": True}


def test_a_product_with_prices_cannot_be_deleted(
    api: stripe.StripeClient, price: stripe.Price
) -> None:
    with refused(400):
        api.v1.products.delete("prod_probe")


def test_a_price_has_both_forms_of_its_amount(price: stripe.Price) -> None:
    assert (price.unit_amount, str(price.unit_amount_decimal)) == (500, "500")


def test_a_price_of_part_of_a_cent(api: stripe.StripeClient, product: stripe.Product) -> None:
    made = api.raw_request(
        "post", "/v1/prices", product=product.id, currency="usd", unit_amount_decimal="0.05"
    )
    assert (made.data["unit_amount"], made.data["unit_amount_decimal"]) == (None, "0.05")


def test_a_price_needs_an_amount(api: stripe.StripeClient, product: stripe.Product) -> None:
    with refused(400, "parameter_missing", "unit_amount"):
        api.v1.prices.create({"product": product.id, "currency": "usd"})


def test_a_price_may_bring_its_product(api: stripe.StripeClient, events: Events) -> None:
    api.v1.prices.create({"product_data": {"name": "x"}, "currency": "usd", "unit_amount": 1})
    assert events.types() == ["product.created", "price.created"]


def test_a_recurring_price_is_complete(api: stripe.StripeClient, product: stripe.Product) -> None:
    made = api.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 1,
            "recurring": {"interval": "year"},
        }
    )
    assert made.recurring is not None
    assert (made.type, made.recurring.interval_count, made.recurring.usage_type) == (
        "recurring",
        1,
        "licensed",
    )


def test_the_last_tier_has_no_end(api: stripe.StripeClient, product: stripe.Product) -> None:
    made = api.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "billing_scheme": "tiered",
            "tiers_mode": "volume",
            "recurring": {"interval": "month"},
            "tiers": [{"up_to": 10, "unit_amount": 5}, {"up_to": "inf", "unit_amount": 4}],
            "expand": ["tiers"],
        }
    )
    assert [tier.up_to for tier in made.tiers or []] == [10, None]


def test_the_amount_of_a_price_is_frozen(api: stripe.StripeClient, price: stripe.Price) -> None:
    with refused(400, "parameter_unknown", "unit_amount"):
        api.raw_request("post", f"/v1/prices/{price.id}", unit_amount=600)


def test_a_changed_price_tells(
    api: stripe.StripeClient, price: stripe.Price, events: Events
) -> None:
    api.v1.prices.update(price.id, {"nickname": "n", "active": False})
    assert events.previous("price.updated") == {"active": True, "nickname": None}


def test_a_lookup_key_is_taken_once(api: stripe.StripeClient, price: stripe.Price) -> None:
    with refused(400, "resource_already_exists", "lookup_key"):
        api.v1.prices.create(
            {"product": "prod_probe", "currency": "usd", "unit_amount": 1, "lookup_key": "probe"}
        )


def test_a_lookup_key_can_be_transferred(
    api: stripe.StripeClient, price: stripe.Price, events: Events
) -> None:
    made = api.v1.prices.create(
        {
            "product": "prod_probe",
            "currency": "usd",
            "unit_amount": 1,
            "lookup_key": "probe",
            "transfer_lookup_key": True,
        }
    )
    assert [p.id for p in api.v1.prices.list({"lookup_keys": ["probe"]}).data] == [made.id]
    assert events.previous("price.updated") == {"lookup_key": "probe"}


def test_a_default_price_cannot_be_archived(api: stripe.StripeClient, price: stripe.Price) -> None:
    api.v1.products.update("prod_probe", {"default_price": price.id})
    with refused(400, None, "active"):
        api.v1.prices.update(price.id, {"active": False})


def test_a_default_price_can_be_unset_first(api: stripe.StripeClient, price: stripe.Price) -> None:
    api.v1.products.update("prod_probe", {"default_price": price.id})
    api.v1.products.update("prod_probe", {"default_price": ""})
    assert not api.v1.prices.update(price.id, {"active": False}).active


def test_prices_cannot_be_deleted_over_the_api(
    api: stripe.StripeClient, price: stripe.Price
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        api.raw_request("delete", f"/v1/prices/{price.id}")


def test_prices_can_be_deleted_from_outside(
    api: stripe.StripeClient, price: stripe.Price, emu: Emulator, events: Events
) -> None:
    emu.delete("price", price.id)
    assert events.types() == ["price.deleted"]
    with refused(404, "resource_missing", "id"):
        api.v1.prices.retrieve(price.id)


def test_only_prices_are_deleted_from_outside(emu: Emulator) -> None:
    with pytest.raises(ValueError, match="only prices"):
        emu.delete("charge", "ch_1")


def test_items_show_their_price_as_it_is_now(api: stripe.StripeClient, emu: Emulator) -> None:
    item = emu.objects("subscription_items")[0]
    api.v1.prices.update(item["price"]["id"], {"nickname": "renamed"})
    assert api.v1.subscription_items.retrieve(item["id"]).price.nickname == "renamed"


def test_a_renamed_price_has_but_its_own_event(
    api: stripe.StripeClient, emu: Emulator, events: Events
) -> None:
    item = emu.objects("subscription_items")[0]
    api.v1.prices.update(item["price"]["id"], {"nickname": "renamed"})
    assert events.types() == ["price.updated"]


def test_coupons(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.coupons.create({"percent_off": 12.5, "id": "SPRING"})
    api.v1.coupons.update(made.id, {"name": "Spring"})
    api.v1.coupons.delete(made.id)
    assert events.types() == ["coupon.created", "coupon.updated", "coupon.deleted"]
