"""Payment methods: cards and debits, and their details in charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import cards
from stripe_alloy.emulator.errors import ApiError, invalid, missing
from stripe_alloy.emulator.templates import part

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


FORMER = ("card_", "src_")  # cards and sources: detached is deleted
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
    known = cards.BY_NAME.get(reference.removeprefix("pm_card_"))
    if known is not None and reference.startswith("pm_card_"):
        return create(session, "card", _test_card(session, known))
    return session.get("payment_method", reference, param)


def _test_card(session: Session, known: cards.Card, **fields: Any) -> JSON:
    return card(session, known.brand, known.last4, **{"funding": known.funding, **fields})


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
    behavior = behavior_of(method)
    if behavior.decline and not behavior.attaches:
        raise declined(behavior.decline)
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


def behavior_of(method: JSON) -> cards.Behavior:
    """Return what happens when a payment method, or the details of a charge, is a test card."""
    return cards.behavior_of(method.get("card"))


DECLINE_MESSAGES = {
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "card_velocity_exceeded": "Your card was declined for making repeated attempts too frequently "
    "or exceeding its amount limit.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "insufficient_funds": "Your card has insufficient funds.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
_OWN_CODES = frozenset(
    {"authentication_required", "expired_card", "incorrect_cvc", "processing_error"}
)


def error_of(decline: str) -> tuple[str, str]:
    """Return the error code and the message of a decline code."""
    message = DECLINE_MESSAGES.get(decline, "Your card was declined.")
    return decline if decline in _OWN_CODES else "card_declined", message


def declined(decline: str, **details: Any) -> ApiError:
    """Return the error of a declined card."""
    code, message = error_of(decline)
    return ApiError(402, message, kind="card_error", code=code, decline_code=decline, **details)


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
    expiry = {k: given[k] for k in ("exp_month", "exp_year") if k in given}
    token = str(given.get("token", ""))
    if token:
        return _test_card(session, _named(token, "card[token]"))
    number = str(given.get("number", ""))
    if not cards.is_number(number):
        raise ApiError(
            402,
            "Your card number is incorrect.",
            kind="card_error",
            code="incorrect_number",
            param="number",
        )
    unknown = cards.Card(number, NETWORKS.get(number[0], "visa"))
    return _test_card(session, cards.BY_NUMBER.get(number, unknown), **expiry)


def _named(token: str, param: str) -> cards.Card:
    known = cards.BY_NAME.get(token.removeprefix("tok_"))
    if known is None or not token.startswith("tok_"):
        raise missing("token", token, param)
    return known


_BRAND_NAMES = {
    "amex": "American Express",
    "diners": "Diners Club",
    "discover": "Discover",
    "jcb": "JCB",
    "mastercard": "MasterCard",
    "unionpay": "UnionPay",
    "visa": "Visa",
}


def source_hash(method: JSON, customer: str | None) -> JSON:
    """Return the `source` of a charge."""
    card = method["card"]
    same = ("country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    return {
        "id": method["id"],
        "object": "card",
        **{name: card[name] for name in same},
        "brand": _BRAND_NAMES[card["brand"]],
        "customer": customer,
        "cvc_check": card["checks"]["cvc_check"],
        "metadata": {},
        "name": method["billing_details"]["name"],
    }


def of_source(session: Session, source: str) -> JSON:
    """Return the payment method of a charge's source: a test token, or the ID of a card."""
    if not source.startswith("tok_"):
        found = session.find("payment_method", source)
        if found is None or not found.get("card") or not source.startswith(FORMER):
            raise missing("source", source, "source")
        return found
    hidden = {"_unlisted": True}  # a card of a token belongs to no customer
    return session.add(
        "payment_method",
        private_fields=hidden,
        id=f"card_{session.dice.text(24)}",
        type="card",
        card=_test_card(session, _named(source, "source")),
    )
