"""Stripe's command-line tool triggers its fixtures against the emulator."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stripe_alloy.emulator import Emulator

CLI = "@stripe/cli@1.52.0"
VERSION = "2025-08-27.basil"
"""The tool's fixtures have parameters that later versions of the API name otherwise."""
LEFT = {
    "asks /v2 or test helpers that are not emulated": [
        "cash_balance.funds_available",
        "customer_cash_balance_transaction.created",
        "issuing_authorization.request",
        "issuing_authorization.request.eu",
        "issuing_authorization.request.gb",
        "issuing_transaction.created",
        "issuing_transaction.purchase_details_receipt_updated",
        "issuing_transaction.updated",
        "subscription_schedule.completed",
        "subscription_schedule.expiring",
        "test_helpers.test_clock.advancing",
        "test_helpers.test_clock.created",
        "test_helpers.test_clock.deleted",
        "test_helpers.test_clock.ready",
        "v1.billing.meter.error_report_triggered",
        "v1.billing.meter.no_meter_found",
    ],
    "takes parameters of older API versions": [
        "customer.discount.created",
        "customer.discount.deleted",
        "customer.discount.updated",
        "subscription_schedule.canceled",
        "subscription_schedule.created",
        "subscription_schedule.released",
        "subscription_schedule.updated",
    ],
    "has effects or endpoints that are not emulated": [
        "account.application.deauthorized",
        "balance.available",
        "billing_portal.session.created",
        "checkout.session.async_payment_failed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "customer.source.created",
        "customer.source.updated",
        "customer.subscription.trial_will_end",
        "identity.verification_session.redacted",
        "invoice.payment_action_required",
        "issuing_card.created.eu",
        "issuing_card.created.gb",
        "issuing_cardholder.created.eu",
        "issuing_cardholder.created.gb",
        "payment_intent.partially_funded",
        "payment_intent.processing",
        "payment_method.updated",
        "plan.created",
        "plan.deleted",
        "plan.updated",
        "reporting.report_run.succeeded",
        "setup_intent.requires_action",
        "setup_intent.setup_failed",
        "setup_intent.succeeded",
        "subscription.payment_failed",
        "subscription.payment_succeeded",
        "subscription_schedule.aborted",
        "transfer.reversed",
    ],
}
"""Fixtures without their event, by reason."""


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stripe-cli")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, so Stripe's command-line tool cannot be")
    command = [npm, "install", "--silent", "--no-save", "--prefix", str(folder), CLI]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install Stripe's command-line tool: {done.stderr[-200:]}")
    return [str(folder / "node_modules" / ".bin" / "stripe")]


def test_stripes_own_fixtures_make_their_events(tool: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path)}
    command = [*tool, "trigger", "--help"]
    help_text = subprocess.run(command, capture_output=True, env=env, check=True).stdout
    names = re.findall(r"^  ([a-z_0-9]+(?:\.[a-z_0-9]+)+)$", help_text.decode(), re.MULTILINE)
    left = {name for group in LEFT.values() for name in group}
    done = set()
    with Emulator(customers=3) as emulator:
        options = ["--api-base", emulator.url, "--api-key", emulator.api_key]
        for name in names:
            before = emulator.ids("event")
            command = [*tool, "trigger", name, *options, "--api-version", VERSION]
            run = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
            new = [
                found["type"] for found in emulator.objects("event") if found["id"] not in before
            ]
            if not run.returncode and name in new:
                done.add(name)
    assert set(names) - done == left
    assert len(done) >= 60
