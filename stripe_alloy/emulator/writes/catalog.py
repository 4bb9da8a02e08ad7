"""Products, prices and coupons."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import catalog
from stripe_alloy.emulator.errors import invalid, required
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.writes.fields import given, tell, update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stripe_alloy.emulator.session import Session


_SHAPED = ("recurring", "tiers", "currency_options", "custom_unit_amount", "lookup_key")
_AMOUNTS = ("unit_amount", "unit_amount_decimal", "tiers", "custom_unit_amount")


def _create_product(ledger: Session, _: Mapping[str, str], params: JSON) -> JSON:
    if ledger.find("product", params.get("id")):
        raise invalid("Product already exists.", "id", "resource_already_exists")
    product = catalog.create_product(ledger, **given("product", params))
    default = params.get("default_price_data")
    if default:
        price = new_price(ledger, {**default, "product": product["id"]})
        catalog.touch_product(ledger, product, default_price=price["id"])
    return product


def _update_product(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    product = ledger.get("product", ids["id"])
    if params.get("default_price"):
        price = ledger.get("price", params["default_price"], "default_price")
        if price["product"] != product["id"] or not price["active"]:
            raise invalid(
                "The default price must be an active price of the product.", "default_price"
            )
    update(ledger, product, params, None)
    if ledger.is_changed(product):
        catalog.touch_product(ledger, product)
    return product


def _delete_product(ledger: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    return catalog.delete_product(ledger, ledger.get("product", ids["id"]))


def inline_price(ledger: Session, params: JSON) -> JSON:
    """A price that comes with what it is for (`price_data`): it is in no list."""
    price = new_price(ledger, params)
    ledger.hide(price, _unlisted=True)
    return price


def new_price(ledger: Session, params: JSON) -> JSON:
    """A price of checked parameters."""
    if not any(params.get(name) for name in _AMOUNTS) and "unit_amount" not in params:
        raise required("unit_amount")
    product = _product_of(ledger, params)
    key = params.get("lookup_key") or None
    _claim(ledger, key, None, transfer=params.get("transfer_lookup_key", False))
    fields = {
        **given("price", params, skip=_SHAPED),
        **amounts(params),
        "custom_unit_amount": _custom(params.get("custom_unit_amount")),
        "lookup_key": key,
        "product": product["id"],
        "recurring": params.get("recurring"),
    }
    hidden: JSON = {}
    if params.get("tiers"):
        hidden["tiers"] = [_tier(tier) for tier in params["tiers"]]
        fields.update(unit_amount=None, unit_amount_decimal=None)
    options = dict(params.get("currency_options") or {})
    if not params.get("tiers"):  # the price's own currency is among them
        own = ("custom_unit_amount", "tax_behavior", "unit_amount", "unit_amount_decimal")
        options[params["currency"]] = {name: params[name] for name in own if name in params}
    hidden["currency_options"] = {name: _option(option) for name, option in options.items()}
    return catalog.create_price(ledger, hidden=hidden, **fields)


def _product_of(ledger: Session, params: JSON) -> JSON:
    if "product" in params:
        return ledger.get("product", params["product"], "product")
    if "product_data" not in params:
        raise required("product")
    return catalog.create_product(ledger, **given("product", params["product_data"]))


def amounts(params: JSON) -> JSON:
    """Both forms of the unit amount: whole minor units, and a decimal."""
    if "unit_amount_decimal" in params:
        exact = Decimal(params["unit_amount_decimal"])
        whole = int(exact) if exact == int(exact) else None
        return {"unit_amount": whole, "unit_amount_decimal": params["unit_amount_decimal"]}
    amount = params.get("unit_amount")
    text = None if amount is None else str(amount)
    return {"unit_amount": amount, "unit_amount_decimal": text}


def _tier(tier: JSON) -> JSON:
    flat, unit = tier.get("flat_amount"), tier.get("unit_amount")
    return {
        "flat_amount": flat,
        "flat_amount_decimal": tier.get("flat_amount_decimal", None if flat is None else str(flat)),
        "unit_amount": unit,
        "unit_amount_decimal": tier.get("unit_amount_decimal", None if unit is None else str(unit)),
        "up_to": None if tier["up_to"] == "inf" else tier["up_to"],
    }


def _option(option: JSON) -> JSON:
    return {
        "custom_unit_amount": _custom(option.get("custom_unit_amount")),
        "tax_behavior": option.get("tax_behavior", "unspecified"),
        **amounts(option),
    }


def _custom(chosen: JSON | None) -> JSON | None:
    if not chosen or not chosen.get("enabled"):
        return None
    return {name: chosen.get(name) for name in ("maximum", "minimum", "preset")}


def _claim(ledger: Session, key: str | None, own: str | None, *, transfer: bool) -> None:
    if not key:
        return
    for holder in ledger.children("price", "lookup_key", key):
        if holder["id"] == own:
            continue
        if not transfer:
            raise invalid(
                f"A price (`{holder['id']}`) already uses that lookup key.",
                "lookup_key",
                "resource_already_exists",
            )
        catalog.give_up_lookup_key(ledger, holder)


def _create_price(ledger: Session, _: Mapping[str, str], params: JSON) -> JSON:
    return new_price(ledger, params)


def _update_price(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    price = ledger.get("price", ids["id"])
    product = ledger.find("product", price["product"])
    if params.get("active") is False and product and product["default_price"] == price["id"]:
        raise invalid(
            "This price cannot be archived because it is the default price of its product.",
            "active",
        )
    _claim(
        ledger,
        params.get("lookup_key"),
        price["id"],
        transfer=params.get("transfer_lookup_key", False),
    )
    update(ledger, price, params, None, ("currency_options",))
    if "currency_options" in params:
        held = ledger.hidden(price).get("currency_options", {})
        options = {name: _option(option) for name, option in params["currency_options"].items()}
        ledger.hide(price, currency_options={**held, **options})
        ledger.emit("price.updated", price)
    else:
        tell(ledger, price, "price.updated")
    catalog.spread(ledger, price)
    return price


def _create_coupon(ledger: Session, _: Mapping[str, str], params: JSON) -> JSON:
    if not params.get("percent_off") and not params.get("amount_off"):
        raise required("percent_off")
    fields = given("coupon", params, skip=("currency_options", "applies_to"))
    fields.setdefault("id", ledger.dice.text(8))
    coupon = ledger.add("coupon", **fields)
    ledger.emit("coupon.created", coupon)
    return coupon


def _update_coupon(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    coupon = ledger.get("coupon", ids["id"])
    return update(ledger, coupon, params, "coupon.updated", ("currency_options",))


def _delete_coupon(ledger: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    coupon = ledger.get("coupon", ids["id"])
    ledger.emit("coupon.deleted", coupon)
    return ledger.remove(coupon)


ROUTES = (
    Route("POST", "/v1/products", "product", "ProductCreateParams", write=_create_product),
    Route("POST", "/v1/products/{id}", "product", "ProductUpdateParams", write=_update_product),
    Route("DELETE", "/v1/products/{id}", "product", None, write=_delete_product),
    Route("POST", "/v1/prices", "price", "PriceCreateParams", write=_create_price),
    Route("POST", "/v1/prices/{id}", "price", "PriceUpdateParams", write=_update_price),
    Route("POST", "/v1/coupons", "coupon", "CouponCreateParams", write=_create_coupon),
    Route("POST", "/v1/coupons/{id}", "coupon", "CouponUpdateParams", write=_update_coupon),
    Route("DELETE", "/v1/coupons/{id}", "coupon", None, write=_delete_coupon),
)
