"""New customers with addresses and payment methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import customers, methods
from stripe_alloy.emulator.seed import names
from stripe_alloy.emulator.templates import part

if TYPE_CHECKING:
    from stripe_alloy.emulator.seed.names import Place
    from stripe_alloy.emulator.session import Session


SEGMENTS = ("hobby", "school", "industry", "research")


def create_customer(session: Session, place: Place, number: int, **fields: Any) -> JSON:
    """Create a customer at a place, without a payment method."""
    dice = session.dice
    given, family = dice.pick(names.GIVEN), dice.pick(names.FAMILY)
    name = f"{family} {dice.pick(names.FIRMS)}" if dice.chance(0.4) else f"{given} {family}"
    address = _address(session, place)
    phone = f"{place.dial}{dice.digits(6)}"
    shipping = part("customer", "shipping", address=address, name=name, phone=phone)
    known = {
        "address": address,
        "description": f"Customer no. {number}",
        "email": f"{_ascii(given)}.{_ascii(family)}.{number}@example.com",
        "metadata": {"crm_id": f"C-{number:06d}", "segment": dice.pick(SEGMENTS)},
        "name": name,
        "phone": phone if dice.chance(0.8) else None,
        "preferred_locales": [place.locale],
        "shipping": shipping if dice.chance(0.3) else None,
    }
    return customers.announce(session, customers.create(session, **{**known, **fields}))


def _ascii(name: str) -> str:
    plain = name.lower().replace("ø", "o").replace("ü", "u")
    return "".join(letter for letter in plain if letter.isalpha())


def _address(session: Session, place: Place) -> JSON:
    city, postal_code = session.dice.pick(place.cities)
    return {
        "city": city,
        "country": place.country,
        "line1": f"{session.dice.between(1, 199)} {session.dice.pick(place.streets)}",
        "line2": None,
        "postal_code": postal_code,
        "state": "OR" if place.country == "US" else None,
    }


def give_payment_method(session: Session, customer: JSON, place: Place) -> JSON:
    """Attach a payment method, and make it the default."""
    method = new_method(session, customer, place)
    methods.attach(session, method, customer["id"])
    settings = {**customer["invoice_settings"], "default_payment_method": method["id"]}
    session.change(customer, invoice_settings=settings)
    session.emit("customer.updated", customer)
    return method


def new_method(session: Session, customer: JSON, place: Place) -> JSON:
    """Create a card, or in the euro area often a SEPA debit."""
    dice = session.dice
    details = {
        "address": customer["address"],
        "email": customer["email"],
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_id": None,
    }
    if place.currency == "eur" and dice.chance(0.3):
        debit = methods.sepa_debit(session, place.country, dice.digits(4))
        return methods.create(session, "sepa_debit", debit, billing_details=details)
    brand, last4 = dice.weighted(names.BRANDS)
    card = methods.card(
        session,
        brand,
        last4,
        country=place.country,
        exp_month=dice.between(1, 12),
        exp_year=dice.weighted(((2026, 20), (2027, 30), (2028, 25), (2029, 25))),
        funding=dice.weighted((("credit", 60), ("debit", 35), ("prepaid", 5))),
    )
    return methods.create(session, "card", card, billing_details=details)
