"""The few facts that the types of the package do not contain."""

from __future__ import annotations

# Errors drag whole objects along, each of them in a schema of its own.
ERRORS = (
    "Invoice.LastFinalizationError",
    "PaymentIntent.LastPaymentError",
    "SetupAttempt.SetupError",
    "SetupIntent.LastSetupError",
    "terminal.Reader.Action.ApiError",
)

DRAGGED_ALONG = ("payment_intent", "payment_method", "setup_intent", "source")

# What moved funds of a financial account, each an object of another stream.
FLOW_KINDS = ("Transaction", "TransactionEntry")
FLOWS = (
    "credit_reversal",
    "debit_reversal",
    "inbound_transfer",
    "issuing_authorization",
    "outbound_payment",
    "outbound_transfer",
    "received_credit",
    "received_debit",
)

# Not spelled out but open objects: these, and the rows of a stream that come only when expanded.
CUT = frozenset(
    [f"{error}.{part}" for error in ERRORS for part in DRAGGED_ALONG]
    + [f"treasury.{kind}.FlowDetails.{flow}" for kind in FLOW_KINDS for flow in FLOWS]
    + [
        "Charge.refunds",
        "Customer.subscriptions",
        "terminal.Reader.Action.CollectPaymentMethod.payment_method",
    ]
)

# Inside another resource only its own fields are spelled out; the objects below them stay open.
# An account can be the source of a charge, a rarity that would add 450 properties to each.
SHALLOW = frozenset({"Account"})

# There only when expanded, though no id stands in their place. The package does not mark them;
# docs.stripe.com/api labels each "Expandable" or "not included by default".
INCLUDED = frozenset(
    {
        "Charge.refunds",
        "Coupon.applies_to",
        "Coupon.currency_options",
        "Customer.cash_balance",
        "Customer.invoice_credit_balance",
        "Customer.sources",
        "Customer.subscriptions",
        "Customer.tax",
        "Customer.tax_ids",
        "Invoice.confirmation_secret",
        "Invoice.payments",
        "PaymentIntent.AmountDetails.line_items",
        "PaymentLink.line_items",
        "Plan.tiers",
        "Price.currency_options",
        "Price.tiers",
        "Quote.Computed.Upfront.line_items",
        "Quote.line_items",
        "ShippingRate.FixedAmount.currency_options",
        "checkout.Session.line_items",
        "identity.VerificationSession.verified_outputs",
    }
)

# Ids that can be expanded, though the package types them as plain text: Stripe's OpenAPI
# description marks them.
EXPANDABLE_TEXTS = {
    "CreditNote.TotalTax.TaxRateDetails.tax_rate": "tax_rate",
    "CreditNoteLineItem.Tax.TaxRateDetails.tax_rate": "tax_rate",
    "Invoice.TotalTax.TaxRateDetails.tax_rate": "tax_rate",
    "InvoiceLineItem.Tax.TaxRateDetails.tax_rate": "tax_rate",
}
