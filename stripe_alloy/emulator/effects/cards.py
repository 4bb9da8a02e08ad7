"""Stripe's test cards: what each does, by its number and by its name in `pm_card_…` and `tok_…`."""

from __future__ import annotations

from typing import NamedTuple


class Behavior(NamedTuple):
    """What happens when a card is charged."""

    decline: str | None = None
    """Decline code of each charge."""
    attaches: bool = True
    """Whether a customer can have the card."""
    authenticates: bool = False
    """Whether the cardholder must authenticate each payment."""
    off_session: bool = False
    """Whether it is authenticated already for payments without the cardholder."""
    dispute: str | None = None
    """Reason of the dispute that follows a successful charge."""
    inquiry: bool = False
    """Whether that dispute begins as an inquiry, which moves no money."""


class Card(NamedTuple):
    """A test card."""

    number: str
    brand: str
    names: tuple[str, ...] = ()
    """Its names after `pm_card_` and `tok_`."""
    behavior: Behavior = Behavior()
    funding: str = "credit"

    @property
    def last4(self) -> str:
        """Return the last four digits, which no two cards of different behavior share."""
        return self.number[-4:]


def _declined(code: str) -> Behavior:
    return Behavior(decline=code, attaches=False)


_ASKS = Behavior(authenticates=True)
_VISA, _MASTERCARD = "visa", "mastercard"

# docs.stripe.com/testing
CARDS = (
    Card("4242424242424242", _VISA, ("visa",)),
    Card("4000000000000077", _VISA, ("bypassPending",)),
    Card("4000056655665556", _VISA, ("visa_debit",), funding="debit"),
    Card("5555555555554444", _MASTERCARD, ("mastercard",)),
    Card("2223003122003222", _MASTERCARD),
    Card("5200828282828210", _MASTERCARD, ("mastercard_debit",), funding="debit"),
    Card("5105105105105100", _MASTERCARD, ("mastercard_prepaid",), funding="prepaid"),
    Card("378282246310005", "amex"),
    Card("371449635398431", "amex", ("amex",)),
    Card("6011111111111117", "discover"),
    Card("6011000990139424", "discover", ("discover",)),
    Card("3056930009020004", "diners", ("diners",)),
    Card("36227206271667", "diners"),
    Card("3566002020360505", "jcb", ("jcb",)),
    Card("6200000000000005", "unionpay", ("unionpay",)),
    Card(
        "4000000000000002", _VISA, ("visa_chargeDeclined", "chargeDeclined"),
        _declined("generic_decline"),
    ),
    Card(
        "4000000000009995", _VISA,
        ("visa_chargeDeclinedInsufficientFunds", "chargeDeclinedInsufficientFunds"),
        _declined("insufficient_funds"),
    ),
    Card(
        "4000000000009987", _VISA, ("visa_chargeDeclinedLostCard", "chargeDeclinedLostCard"),
        _declined("lost_card"),
    ),
    Card(
        "4000000000009979", _VISA, ("visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard"),
        _declined("stolen_card"),
    ),
    Card(
        "4000000000000069", _VISA, ("chargeDeclinedExpiredCard",), _declined("expired_card"),
    ),
    Card(
        "4000000000000127", _VISA, ("chargeDeclinedIncorrectCvc",), _declined("incorrect_cvc"),
    ),
    Card(
        "4000000000000119", _VISA, ("chargeDeclinedProcessingError",),
        _declined("processing_error"),
    ),
    Card(
        "4000000000006975", _VISA,
        ("visa_chargeDeclinedVelocityLimitExceeded", "chargeDeclinedVelocityLimitExceeded"),
        _declined("card_velocity_exceeded"),
    ),
    Card("4100000000000019", _VISA, ("radarBlock", "chargeDeclinedFraudulent"),
         _declined("fraudulent")),
    Card("4000000000000341", _VISA, ("chargeCustomerFail",), Behavior(decline="generic_decline")),
    Card("4000002500003155", _VISA, ("authenticationRequiredOnSetup",), _ASKS),
    Card("4000002760003184", _VISA, ("authenticationRequired",), _ASKS),
    Card(
        "4000003800000446", _VISA, ("authenticationRequiredSetupForOffSession",),
        Behavior(authenticates=True, off_session=True),
    ),
    Card("4000000000003220", _VISA, ("threeDSecure2Required",), _ASKS),
    Card("4000000000003063", _VISA, ("threeDSecureRequired",), _ASKS),
    Card(
        "4000008400001629", _VISA, ("threeDSecureRequiredChargeDeclined",),
        Behavior(authenticates=True, decline="generic_decline"),
    ),
    Card(
        "4000008260003178", _VISA, ("authenticationRequiredChargeDeclinedInsufficientFunds",),
        Behavior(authenticates=True, decline="insufficient_funds"),
    ),
    Card("4000000000003055", _VISA, ("threeDSecureOptional",)),
    Card("4000000000000259", _VISA, ("createDispute",), Behavior(dispute="fraudulent")),
    Card(
        "4000000000002685", _VISA, ("createDisputeProductNotReceived",),
        Behavior(dispute="product_not_received"),
    ),
    Card(
        "4000000000001976", _VISA, ("createDisputeInquiry",),
        Behavior(dispute="fraudulent", inquiry=True),
    ),
)  # fmt: skip
BY_NAME = {name: card for card in CARDS for name in card.names}
BY_NUMBER = {card.number: card for card in CARDS}
_BEHAVIORS = {card.last4: card.behavior for card in CARDS}
_PAYS = Behavior()


def behavior_of(details: dict[str, object] | None) -> Behavior:
    """Return the behavior of a card, given the hash with its last four digits."""
    return _BEHAVIORS.get(str((details or {}).get("last4")), _PAYS)


def is_number(number: str) -> bool:
    """Whether a card number has a valid length and check digit."""
    if not (number.isascii() and number.isdigit() and 12 <= len(number) <= 19):
        return False
    digits = [int(digit) for digit in reversed(number)]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
