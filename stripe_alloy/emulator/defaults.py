"""What a fresh object says where the schema alone cannot tell: enumerations, common settings."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SELF: Mapping[str, Any] = MappingProxyType({"account": None, "type": "self"})

_PAYMENT_SETTINGS = {
    "payment_method_options": None,
    "payment_method_types": None,
    "save_default_payment_method": "off",
}
_FIELDS: dict[str, dict[str, Any]] = {
    "account": {
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    },
    "balance_transaction": {"balance_type": "payments", "status": "available"},
    "charge": {"fraud_details": {}, "status": "succeeded", "paid": True, "captured": True},
    "coupon": {"duration": "once", "valid": True, "metadata": {}},
    "customer": {
        "balance": 0,
        "delinquent": False,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "metadata": {},
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
    },
    "discount": {"source": {"coupon": None, "type": "coupon"}},
    "dispute": {"reason": "general", "status": "needs_response", "is_charge_refundable": False},
    "event": {"pending_webhooks": 0},
    "invoice": {
        "account_country": "US",
        "account_name": "Alloy Instruments",
        "auto_advance": False,
        "billing_reason": "manual",
        "collection_method": "charge_automatically",
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "issuer": dict(SELF),
        "metadata": {},
        "status": "draft",
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
    },
    "invoice_payment": {"is_default": True, "status": "open"},
    "invoiceitem": {
        "amount": 0,
        "currency": "usd",
        "customer": "",
        "customer_account": None,
        "date": 0,
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "net_amount": 0,
        "parent": None,
        "period": {"end": 0, "start": 0},
        "pricing": None,
        "proration": False,
        "proration_details": None,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": None,
    },
    "line_item": {
        "discount_amounts": [],
        "discountable": True,
        "pretax_credit_amounts": [],
        "quantity": 1,
        "quantity_decimal": "1",
        "taxes": [],
    },
    "payment_intent": {
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "payment_method_types": ["card"],
        "amount_details": {"tip": {}},
        "status": "requires_payment_method",
    },
    "payment_method": {"allow_redisplay": "unspecified", "metadata": {}, "type": "card"},
    "payout": {
        "automatic": True,
        "metadata": {},
        "method": "standard",
        "reconciliation_status": "completed",
        "source_type": "card",
        "status": "paid",
        "type": "bank_account",
    },
    "plan": {"active": True, "billing_scheme": "per_unit", "interval": "month"},
    "price": {"active": True, "billing_scheme": "per_unit", "tax_behavior": "unspecified"},
    "product": {"active": True, "type": "service"},
    "refund": {"metadata": {}, "status": "succeeded"},
    "subscription": {
        "billing_mode": {"flexible": None, "type": "classic", "updated_at": None},
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "default_tax_rates": [],
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": dict(SELF),
        },
        "payment_settings": _PAYMENT_SETTINGS,
        "status": "active",
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    },
    "subscription_item": {"quantity": 1, "tax_rates": []},
    "tax_id": {"type": "eu_vat"},
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(_FIELDS)
