"""The endpoints that write."""

from __future__ import annotations

from stripe_alloy.emulator.writes import (
    catalog,
    customers,
    disputes,
    generic,
    invoices,
    items,
    lines,
    payments,
    payouts,
    previews,
    refunds,
    subscriptions,
    webhooks,
)

_SPECIFIC = (
    *catalog.ROUTES,
    *customers.ROUTES,
    *payments.ROUTES,
    *refunds.ROUTES,
    *disputes.ROUTES,
    *payouts.ROUTES,
    *invoices.ROUTES,
    *previews.ROUTES,
    *lines.ROUTES,
    *subscriptions.ROUTES,
    *items.ROUTES,
    *webhooks.ROUTES,
)
ROUTES = (*_SPECIFIC, *generic.routes(_SPECIFIC))
