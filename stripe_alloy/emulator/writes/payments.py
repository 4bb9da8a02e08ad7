"""Payment methods, payment intents, charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import methods, payments
from stripe_alloy.emulator.errors import ApiError, invalid, required
from stripe_alloy.emulator.routes import Ids, Route, without_params
from stripe_alloy.emulator.templates import part
from stripe_alloy.emulator.writes.fields import given, update

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_ACTIONS = ("payment_method_options", "amount_details", "hooks", "payment_details", "transfer_data")


# ---------------------------------------------------------------------- payment methods


def _create_method(session: Session, _: Ids, params: JSON) -> JSON:
    kind = params.get("type")
    if not kind:
        raise required("type")
    fields = given("payment_method", params, skip=("type", kind))
    return methods.create(session, kind, _details(session, kind, params), **fields)


def _details(session: Session, kind: str, params: JSON) -> JSON:
    chosen = params.get(kind) or {}
    if kind == "card":
        return methods.token_hash(session, chosen)
    if kind == "sepa_debit":
        iban = str(chosen.get("iban", ""))
        return methods.sepa_debit(session, iban[:2] or "DE", iban[-4:] or "3000")
    blank = part("payment_method", kind)
    return {**blank, **{name: value for name, value in chosen.items() if name in blank}}


def _update_method(session: Session, method: JSON, params: JSON) -> JSON:
    if not method["customer"]:
        raise invalid(
            "You must save this PaymentMethod to a customer before you can update it.",
            code="payment_method_unexpected_state",
        )
    return update(session, method, params, "payment_method.updated")


def _attach(session: Session, ids: Ids, params: JSON) -> JSON:
    if not params.get("customer"):
        raise required("customer")
    method = methods.resolve(session, ids["id"], "id")
    return methods.attach(session, method, params["customer"])


# ---------------------------------------------------------------------- payment intents


def _create_intent(session: Session, _: Ids, params: JSON) -> JSON:
    if params["amount"] < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount")
    if params.get("customer"):
        session.get("customer", params["customer"], "customer")
    fields = given("payment_intent", params, skip=(*_ACTIONS, "amount", "currency"))
    if params.get("payment_method"):
        method = methods.resolve(session, params["payment_method"], "payment_method")
        fields["payment_method"] = method["id"]
    automatic = params.get("automatic_payment_methods")
    if automatic:
        fields["automatic_payment_methods"] = {"allow_redirects": "always", **automatic}
    intent = payments.create_intent(session, params["amount"], params["currency"], **fields)
    if not params.get("confirm"):
        return intent
    return _confirmed(session, intent, {**params, "payment_method": intent["payment_method"]})


def _confirmed(session: Session, intent: JSON, params: JSON) -> JSON:
    method_id = params.get("payment_method") or intent["payment_method"]
    if not method_id:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    method = methods.resolve(session, method_id, "payment_method")
    behavior = methods.behavior_of(method)
    alone = params.get("off_session") or params.get("error_on_requires_action")
    if behavior.authenticates and not alone:
        return payments.challenge(session, intent, method, params.get("return_url"))
    unasked = behavior.authenticates and not behavior.off_session
    decline = "authentication_required" if unasked else None
    charge = payments.confirm(session, intent, method, decline)
    if charge["status"] == "failed":
        raise payments.card_error(intent)
    if intent["setup_future_usage"] and intent["customer"] and not method["customer"]:
        methods.attach(session, method, intent["customer"])
    return intent


def _update_intent(session: Session, intent: JSON, params: JSON) -> JSON:
    """Update an intent; Stripe emits no event for it."""
    _check_update(intent, params)
    if params.get("payment_method"):
        method = methods.resolve(session, params["payment_method"], "payment_method")
        session.change(
            intent, payment_method=method["id"], next_action=None, status="requires_confirmation"
        )
    elif params.get("payment_method") == "":
        session.change(
            intent, payment_method=None, next_action=None, status="requires_payment_method"
        )
    return update(session, intent, params, None, (*_ACTIONS, "payment_method"))


_ALWAYS = frozenset({"metadata", "description", "receipt_email", "shipping", "transfer_group"})


def _check_update(intent: JSON, params: JSON) -> None:
    if intent["status"] not in payments.OPEN and not params.keys() <= _ALWAYS:
        raise payments.unexpected(intent, "update")


def _confirm(session: Session, intent: JSON, params: JSON) -> JSON:
    session.change(intent, **given("payment_intent", params, intent, (*_ACTIONS, "payment_method")))
    return _confirmed(session, intent, params)


def _capture_intent(session: Session, intent: JSON, params: JSON) -> JSON:
    if intent["status"] != "requires_capture":
        raise payments.unexpected(intent, "capture")
    charge = session.get("charge", intent["latest_charge"])
    payments.capture(session, charge, params.get("amount_to_capture"))
    return update(session, intent, params, None, _ACTIONS)


def _cancel_intent(session: Session, intent: JSON, params: JSON) -> JSON:
    return payments.cancel(session, intent, params.get("cancellation_reason"))


# ---------------------------------------------------------------------- charges


_NOT_COPIED = ("source", "capture", "customer")


def _create_charge(session: Session, _: Ids, params: JSON) -> JSON:
    if params["amount"] < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount")
    method = _source(session, params)
    fields = {"currency": params["currency"], **given("charge", params, skip=_NOT_COPIED)}
    return payments.charge_directly(
        session,
        method,
        capture=params.get("capture", True),
        customer=params.get("customer"),
        source=methods.source_hash(method, params.get("customer")),
        **fields,
    )


def _source(session: Session, params: JSON) -> JSON:
    """Return the payment method of a new charge: its source, or the customer's default one."""
    source = params.get("source")
    if params.get("customer"):
        customer = session.get("customer", params["customer"], "customer")
        source = source or customer["default_source"]
        if not source:
            raise ApiError(
                402,
                "Cannot charge a customer that has no active card",
                kind="card_error",
                code="missing",
                param="card",
            )
    if not source:
        raise invalid("Must provide source or customer.")
    return methods.of_source(session, source)


def _update_charge(session: Session, charge: JSON, params: JSON) -> JSON:
    if params.get("customer"):
        if charge["customer"]:
            raise invalid("The charge already has a customer.", "customer")
        session.get("customer", params["customer"], "customer")
    return update(session, charge, params, "charge.updated")


def _capture(session: Session, charge: JSON, params: JSON) -> JSON:
    return payments.capture(session, charge, params.get("amount"))


_METHODS, _INTENTS = "/v1/payment_methods", "/v1/payment_intents"
_METHOD, _INTENT = "payment_method", "payment_intent"
ROUTES = (
    Route("POST", _METHODS, _METHOD, "PaymentMethodCreateParams", write=_create_method),
    Route("POST", _METHODS + "/{id}", _METHOD, "PaymentMethodUpdateParams", change=_update_method),
    Route("POST", _METHODS + "/{id}/attach", _METHOD, "PaymentMethodAttachParams", write=_attach),
    Route("POST", _METHODS + "/{id}/detach", _METHOD, change=without_params(methods.detach)),
    Route("POST", _INTENTS, _INTENT, "PaymentIntentCreateParams", write=_create_intent),
    Route("POST", _INTENTS + "/{id}", _INTENT, "PaymentIntentUpdateParams", change=_update_intent),
    Route(
        "POST", _INTENTS + "/{id}/confirm", _INTENT, "PaymentIntentConfirmParams", change=_confirm
    ),
    Route(
        "POST", _INTENTS + "/{id}/capture", _INTENT, "PaymentIntentCaptureParams",
        change=_capture_intent,
    ),
    Route(
        "POST", _INTENTS + "/{id}/cancel", _INTENT, "PaymentIntentCancelParams",
        change=_cancel_intent,
    ),
    Route("POST", "/v1/charges", "charge", "ChargeCreateParams", write=_create_charge),
    Route("POST", "/v1/charges/{id}", "charge", "ChargeUpdateParams", change=_update_charge),
    Route("POST", "/v1/charges/{id}/capture", "charge", "ChargeCaptureParams", change=_capture),
)  # fmt: skip
