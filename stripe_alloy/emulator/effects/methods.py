"""Payment methods: cards and debits, and their details in charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.errors import ApiError, invalid
from stripe_alloy.emulator.templates import part

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


# docs.stripe.com/testing: brand and last four digits by token
TEST_CARDS = {
    "visa": ("visa", "4242"),
    "visa_debit": ("visa", "5556"),
    "mastercard": ("mastercard", "4444"),
    "amex": ("amex", "8431"),
    "discover": ("discover", "9424"),
    "diners": ("diners", "0004"),
    "jcb": ("jcb", "0505"),
    "unionpay": ("unionpay", "0005"),
    "chargeDeclined": ("visa", "0002"),
    "chargeCustomerFail": ("visa", "0341"),
    "chargeDeclinedInsufficientFunds": ("visa", "9995"),
}
FORMER = ("card_", "src_")  # cards and sources: detached is deleted
DECLINES = {"0002": "generic_decline", "0341": "generic_decline", "9995": "insufficient_funds"}
NETWORKS = {"4": "visa", "5": "mastercard", "2": "mastercard", "3": "amex", "6": "discover"}


def card(session: Session, brand: str, last4: str, **fields: Any) -> JSON:
    """Return the complete hash of a card."""
    known = {
        "brand": brand,
        "checks": {
            "address_line1_check": "pass",
            "address_postal_code_check": "pass",
            "cvc_check": "pass",
        },
        "country": "US",
        "display_brand": brand,
        "exp_month": 12,
        "exp_year": 2030,
        "fingerprint": session.dice.text(16),
        "funding": "credit",
        "last4": last4,
        "networks": {"available": [brand], "preferred": None},
        "three_d_secure_usage": {"supported": True},
    }
    return part("payment_method", "card", **{**known, **fields})


def sepa_debit(session: Session, country: str, last4: str) -> JSON:
    """Return the complete hash of a SEPA debit."""
    return part(
        "payment_method",
        "sepa_debit",
        bank_code="37040044",
        country=country,
        fingerprint=session.dice.text(16),
        generated_from={"charge": None, "setup_attempt": None},
        last4=last4,
    )


def create(session: Session, kind: str, details: JSON, **fields: Any) -> JSON:
    """Create a payment method without a customer; Stripe emits no event for it."""
    private_fields = {"_unlisted": True} if kind == "custom" else None
    return session.add(
        "payment_method", private_fields=private_fields, **{"type": kind, kind: details, **fields}
    )


def resolve(session: Session, reference: str, param: str) -> JSON:
    """Return the payment method of an ID, or a new one for a test ID such as `pm_card_visa`."""
    name = reference.removeprefix("pm_card_").removeprefix("tok_")
    if name != reference and name in TEST_CARDS:
        return create(session, "card", card(session, *TEST_CARDS[name]))
    return session.get("payment_method", reference, param)


def attach(session: Session, method: JSON, customer: str) -> JSON:
    """Attach it to a customer."""
    if method["customer"] == customer:
        return method
    if method["customer"]:
        raise invalid(
            "The payment method you provided has already been attached to a customer.",
            code="payment_method_unexpected_state",
        )
    session.get("customer", customer, "customer")
    session.change(method, customer=customer)
    session.emit("payment_method.attached", method)
    return method


def detach(session: Session, method: JSON) -> JSON:
    """Detach it from its customer, for good."""
    owner = method["customer"]
    if not owner:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible.",
            code="payment_method_unexpected_state",
        )
    session.change(method, customer=None)
    session.emit("payment_method.detached", method, {"customer": owner})
    _unset_default(session, owner, method["id"])
    end(session, method)
    return method


def end(session: Session, method: JSON) -> None:
    """Delete a detached method if it is a card or source of the former API."""
    if method["id"].startswith(FORMER):
        session.remove(method)


def _unset_default(session: Session, customer_id: str, method_id: str) -> None:
    customer = session.find("customer", customer_id)
    settings = customer and customer["invoice_settings"]
    if customer and settings and settings["default_payment_method"] == method_id:
        session.change(customer, invoice_settings={**settings, "default_payment_method": None})
        session.emit("customer.updated", customer)


def default_of(customer: JSON | None) -> str | None:
    """Return the ID of the customer's default payment method for invoices."""
    settings = (customer or {}).get("invoice_settings") or {}
    method: str | None = settings.get("default_payment_method")
    return method


def decline_of(method: JSON) -> str | None:
    """Return the decline code of a test card that always fails."""
    details = method.get("card")
    return DECLINES.get(details["last4"]) if details else None


def charged(method: JSON) -> JSON:
    """Return the `payment_method_details` of a charge."""
    kind = method["type"]
    path = f"payment_method_details.{kind}"
    blank = part("charge", path)
    source = method.get(kind) or {}
    details = {**blank, **{k: v for k, v in source.items() if k in blank}}
    if kind == "card":
        details.update(network=source["brand"], network_token={"used": False})
    return {"type": kind, kind: details}


def token_hash(session: Session, given: JSON) -> JSON:
    """Return the card of `card[token]`, or of `card[number]` and its expiry."""
    token = str(given.get("token", ""))
    if token:
        name = token.removeprefix("tok_")
        if name not in TEST_CARDS:
            raise ApiError(
                400, f"No such token: '{token}'", code="resource_missing", param="card[token]"
            )
        return card(session, *TEST_CARDS[name])
    number = str(given.get("number", ""))
    if not number.isdigit():
        raise invalid("Your card number is incorrect.", "number", "incorrect_number")
    expiry = {k: given[k] for k in ("exp_month", "exp_year") if k in given}
    return card(session, NETWORKS.get(number[0], "visa"), number[-4:], **expiry)
