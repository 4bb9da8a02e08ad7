"""The endpoints that change something."""

from __future__ import annotations

from stripe_alloy.emulator.writes import (
    catalog,
    customers,
    invoicing,
    items,
    lines,
    payments,
    previews,
    returns,
    subscribing,
    webhooks,
)

ROUTES = (
    *catalog.ROUTES,
    *customers.ROUTES,
    *payments.ROUTES,
    *returns.ROUTES,
    *invoicing.ROUTES,
    *previews.ROUTES,
    *lines.ROUTES,
    *subscribing.ROUTES,
    *items.ROUTES,
    *webhooks.ROUTES,
)
