"""Who may ask, for which account, and what the refusal says."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
import requests
import stripe

from stripe_alloy.emulator.emulated_types import RESOURCES
from tests.emulator.helpers import client_of, get, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator

SECRET = "sk_test_0123456789secretsecret"


def asked(emu: Emulator, **headers: str) -> requests.Response:
    return requests.get(f"{emu.url}/v1/customers", headers=headers, timeout=10)


def test_a_request_without_a_key_is_refused(business: Emulator) -> None:
    assert asked(business).status_code == 401


def test_basic_authentication_takes_the_key_as_user(business: Emulator) -> None:
    user = b64encode(f"{business.api_key}:".encode()).decode()
    assert asked(business, Authorization=f"Basic {user}").status_code == 200


def test_an_unknown_key_is_refused(business: Emulator) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided"):
        client_of(business, SECRET).v1.customers.list()


def test_a_refusal_does_not_show_the_key(business: Emulator) -> None:
    assert "0123456789" not in asked(business, Authorization=f"Bearer {SECRET}").text


def test_a_revoked_key_is_refused(emu: Emulator) -> None:
    emu.keys.add("sk_test_other_key_of_mine")
    emu.keys.revoke("sk_test_other_key_of_mine")
    with pytest.raises(stripe.AuthenticationError):
        client_of(emu, "sk_test_other_key_of_mine").v1.customers.list()


def test_a_restricted_key_reads_what_it_may(emu: Emulator) -> None:
    emu.keys.add("rk_test_reader_of_customers", {"customers": "read"})
    assert client_of(emu, "rk_test_reader_of_customers").v1.customers.list({"limit": 1}).data


PERMISSIONS = [
    ("charges", "rak_charge_read"),
    ("customers", "rak_customer_read"),
    ("payment_intents", "rak_payment_intent_read"),
    ("invoices", "rak_invoice_read"),
    ("subscriptions", "rak_subscription_read"),
    ("products", "rak_product_read"),
    ("prices", "rak_plan_read"),
    ("payment_methods", "rak_payment_method_read"),
    ("disputes", "rak_dispute_read"),
    ("payouts", "rak_payout_read"),
    ("events", "rak_event_read"),
    ("balance_transactions", "rak_balance_transaction_source_read"),
    ("account", "rak_accounts_kyc_basic_read"),
]


@pytest.mark.parametrize(("name", "permission"), PERMISSIONS)
def test_a_missing_permission_is_named(emu: Emulator, name: str, permission: str) -> None:
    emu.keys.add("rk_test_without_anything_1234", {})
    with pytest.raises(stripe.PermissionError, match=permission) as caught:
        get(client_of(emu, "rk_test_without_anything_1234"), f"/v1/{name}")
    assert f"on account '{emu.account_id}'" in str(caught.value)


def test_a_missing_permission_shows_the_end_of_the_key(emu: Emulator) -> None:
    emu.keys.add("rk_test_without_anything_1234", {})
    with pytest.raises(stripe.PermissionError, match=r"rk_test_\*+1234'"):
        get(client_of(emu, "rk_test_without_anything_1234"), "/v1/charges")


def test_a_key_that_may_read_may_not_write(emu: Emulator) -> None:
    emu.keys.add("rk_test_reader_of_customers", {"customer": "read"})
    with pytest.raises(stripe.PermissionError, match="rak_customer_write"):
        client_of(emu, "rk_test_reader_of_customers").v1.customers.create({})


def test_a_star_stands_for_all_others(emu: Emulator) -> None:
    emu.keys.add("rk_test_no_charges_at_all", {"*": "read", "charge": "none"})
    client = client_of(emu, "rk_test_no_charges_at_all")
    assert client.v1.customers.list({"limit": 1}).data
    with pytest.raises(stripe.PermissionError):
        client.v1.charges.list()


def test_permissions_are_checked_when_given(emu: Emulator) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        emu.keys.add("rk_test_x", {"customer": "admin"})


def test_a_connected_account_has_its_own_objects(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    (account,) = business.account_ids
    listed = reader.v1.customers.list({"limit": 100}, {"stripe_account": account})
    assert [row.id for row in listed.data] == business.ids("customers", account)


def test_objects_of_another_account_are_missing(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    (account,) = business.account_ids
    with refused(404, "resource_missing", "id"):
        reader.v1.customers.retrieve(business.ids("customers", account)[0])


def test_an_unknown_account_is_refused(reader: stripe.StripeClient) -> None:
    with refused(403, "account_invalid"):
        reader.v1.customers.list({}, {"stripe_account": "acct_nobody"})


def test_the_account_of_the_key(business: Emulator, reader: stripe.StripeClient) -> None:
    assert reader.v1.accounts.retrieve_current().id == business.account_id


def test_the_account_of_the_header(business: Emulator, reader: stripe.StripeClient) -> None:
    (account,) = business.account_ids
    found = reader.v1.accounts.retrieve_current(options={"stripe_account": account})
    assert found.id == account


def test_connected_accounts_are_listed(business: Emulator, reader: stripe.StripeClient) -> None:
    assert [row.id for row in reader.v1.accounts.list().data] == business.account_ids


def test_a_connected_account_is_retrieved(business: Emulator, reader: stripe.StripeClient) -> None:
    (account,) = business.account_ids
    assert reader.v1.accounts.retrieve(account).id == account


def test_the_balance_sums_what_is_not_paid_out(reader: stripe.StripeClient) -> None:
    assert {entry.currency for entry in reader.v1.balance.retrieve().pending} >= {"usd"}


@pytest.mark.parametrize("kind", [k for k, r in RESOURCES.items() if r.listed and k != "account"])
def test_an_unknown_id_is_missing(reader: stripe.StripeClient, kind: str) -> None:
    with refused(404, "resource_missing", "id"):
        get(reader, f"{RESOURCES[kind].path}/nothing_9")


def test_what_is_missing_is_named(reader: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_9'"):
        reader.v1.customers.retrieve("cus_9")


@pytest.mark.parametrize("path", ["/v1/cats", "/v1/charges/ch_1/cats", "/v1", "/", "/v2/charges"])
def test_an_unknown_url_is_not_recognized(reader: stripe.StripeClient, path: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=r"Unrecognized request URL \(GET: /") as e:
        get(reader, path)
    assert e.value.http_status == 404


@pytest.mark.parametrize("version", ["yesterday", "2026", "10-28-2026"])
def test_a_malformed_version_is_refused(business: Emulator, version: str) -> None:
    bearer = f"Bearer {business.api_key}"
    answer = asked(business, Authorization=bearer, **{"Stripe-Version": version})
    assert answer.status_code == 400


def test_an_error_points_to_its_log(business: Emulator) -> None:
    answer = asked(business)
    assert answer.headers["Request-Id"] in answer.json()["error"]["request_log_url"]


class TestPaymentMethodsWithoutACustomer:
    """Others saw the unscoped list served, refused, and empty."""

    def client(self, how: str) -> stripe.StripeClient:
        from stripe_alloy.emulator import Emulator  # noqa: PLC0415

        self.emulator = Emulator(customers=3, unscoped_payment_methods=how).start()
        return client_of(self.emulator)

    def teardown_method(self) -> None:
        self.emulator.stop()

    def test_served(self) -> None:
        listed = self.client("serve").v1.payment_methods.list({"limit": 100})
        assert [row.id for row in listed.data] == self.emulator.ids("payment_methods")

    def test_refused(self) -> None:
        client = self.client("refuse")
        with refused(400, "parameter_missing", "customer"):
            client.v1.payment_methods.list()

    def test_empty(self) -> None:
        assert not self.client("empty").v1.payment_methods.list().data

    def test_a_customer_always_helps(self) -> None:
        client = self.client("refuse")
        customer = self.emulator.objects("payment_methods")[0]["customer"]
        assert client.v1.payment_methods.list({"customer": customer}).data
