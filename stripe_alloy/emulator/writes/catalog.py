"""Products, prices and coupons."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import catalog
from stripe_alloy.emulator.errors import invalid, required
from stripe_alloy.emulator.routes import Ids, Route, without_params
from stripe_alloy.emulator.writes.fields import emit, given, update

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_SHAPED = ("recurring", "tiers", "currency_options", "custom_unit_amount", "lookup_key")
_AMOUNTS = ("unit_amount", "unit_amount_decimal", "tiers", "custom_unit_amount")


def _create_product(session: Session, _: Ids, params: JSON) -> JSON:
    if session.find("product", params.get("id")):
        raise invalid("Product already exists.", "id", "resource_already_exists")
    product = catalog.create_product(session, **given("product", params))
    default = params.get("default_price_data")
    if default:
        price = new_price(session, {**default, "product": product["id"]})
        catalog.touch_product(session, product, default_price=price["id"])
    return product


def _update_product(session: Session, product: JSON, params: JSON) -> JSON:
    if params.get("default_price"):
        price = session.get("price", params["default_price"], "default_price")
        if price["product"] != product["id"] or not price["active"]:
            raise invalid(
                "The default price must be an active price of the product.", "default_price"
            )
    update(session, product, params, None)
    if session.is_changed(product):
        catalog.touch_product(session, product)
    return product


def inline_price(session: Session, params: JSON) -> JSON:
    """Create a price given as `price_data`; no list contains it."""
    price = new_price(session, params)
    session.set_private_fields(price, _unlisted=True)
    return price


def new_price(session: Session, params: JSON) -> JSON:
    """Create a price from checked parameters."""
    if not any(params.get(name) for name in _AMOUNTS) and "unit_amount" not in params:
        raise required("unit_amount")
    product = _product_of(session, params)
    key = params.get("lookup_key") or None
    _claim(session, key, None, transfer=params.get("transfer_lookup_key", False))
    fields = {
        **given("price", params, skip=_SHAPED),
        **amounts(params),
        "custom_unit_amount": _custom(params.get("custom_unit_amount")),
        "lookup_key": key,
        "product": product["id"],
        "recurring": params.get("recurring"),
    }
    private_fields: JSON = {}
    if params.get("tiers"):
        private_fields["tiers"] = [_tier(tier) for tier in params["tiers"]]
        fields.update(unit_amount=None, unit_amount_decimal=None)
    options = dict(params.get("currency_options") or {})
    if not params.get("tiers"):  # the price's own currency is among them
        own = ("custom_unit_amount", "tax_behavior", "unit_amount", "unit_amount_decimal")
        options[params["currency"]] = {name: params[name] for name in own if name in params}
    private_fields["currency_options"] = {name: _option(option) for name, option in options.items()}
    return catalog.create_price(session, private_fields=private_fields, **fields)


def _product_of(session: Session, params: JSON) -> JSON:
    if "product" in params:
        return session.get("product", params["product"], "product")
    if "product_data" not in params:
        raise required("product")
    return catalog.create_product(session, **given("product", params["product_data"]))


def amounts(params: JSON) -> JSON:
    """Return both forms of the unit amount: an integer in minor units, and a decimal."""
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


def _claim(session: Session, key: str | None, own: str | None, *, transfer: bool) -> None:
    if not key:
        return
    for holder in session.children("price", "lookup_key", key):
        if holder["id"] == own:
            continue
        if not transfer:
            raise invalid(
                f"A price (`{holder['id']}`) already uses that lookup key.",
                "lookup_key",
                "resource_already_exists",
            )
        catalog.give_up_lookup_key(session, holder)


def _create_price(session: Session, _: Ids, params: JSON) -> JSON:
    return new_price(session, params)


def _update_price(session: Session, price: JSON, params: JSON) -> JSON:
    product = session.find("product", price["product"])
    if params.get("active") is False and product and product["default_price"] == price["id"]:
        raise invalid(
            "This price cannot be archived because it is the default price of its product.",
            "active",
        )
    _claim(
        session,
        params.get("lookup_key"),
        price["id"],
        transfer=params.get("transfer_lookup_key", False),
    )
    update(session, price, params, None, ("currency_options",))
    if "currency_options" in params:
        known = session.private_fields(price).get("currency_options", {})
        options = {name: _option(option) for name, option in params["currency_options"].items()}
        session.set_private_fields(price, currency_options={**known, **options})
        session.emit("price.updated", price)
    else:
        emit(session, price, "price.updated")
    catalog.spread(session, price)
    return price


def _create_coupon(session: Session, _: Ids, params: JSON) -> JSON:
    if not params.get("percent_off") and not params.get("amount_off"):
        raise required("percent_off")
    fields = given("coupon", params, skip=("currency_options", "applies_to"))
    fields.setdefault("id", session.dice.text(8))
    coupon = session.add("coupon", **fields)
    session.emit("coupon.created", coupon)
    return coupon


def _update_coupon(session: Session, coupon: JSON, params: JSON) -> JSON:
    return update(session, coupon, params, "coupon.updated", ("currency_options",))


ROUTES = (
    Route("POST", "/v1/products", "product", "ProductCreateParams", write=_create_product),
    Route("POST", "/v1/products/{id}", "product", "ProductUpdateParams", change=_update_product),
    Route("DELETE", "/v1/products/{id}", "product", change=without_params(catalog.delete_product)),
    Route("POST", "/v1/prices", "price", "PriceCreateParams", write=_create_price),
    Route("POST", "/v1/prices/{id}", "price", "PriceUpdateParams", change=_update_price),
    Route("POST", "/v1/coupons", "coupon", "CouponCreateParams", write=_create_coupon),
    Route("POST", "/v1/coupons/{id}", "coupon", "CouponUpdateParams", change=_update_coupon),
)
