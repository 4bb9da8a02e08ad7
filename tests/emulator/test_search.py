"""Searching with Stripe's query language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.emulator.helpers import NOW, client_of, get, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON = dict[str, Any]


def ids(client: stripe.StripeClient, path: str, query: str) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    page: JSON = {}
    while True:
        answer = get(client, f"/v1/{path}/search", query=query, limit=100, **page)
        assert (answer["object"], answer["url"]) == ("search_result", f"/v1/{path}/search")
        found += [row["id"] for row in answer["data"]]
        if not answer["has_more"]:
            assert answer["next_page"] is None
            return found
        page = {"page": answer["next_page"]}


@pytest.fixture(scope="module")
def people() -> Iterator[stripe.StripeClient]:
    """Four customers who differ."""
    with Emulator(customers=0, clock=lambda: NOW) as emulator:
        client = client_of(emulator)
        for customer in (
            {"name": "Ada Byron King", "email": "ada@rocket.example", "metadata": {"tier": "Gold"}},
            {"name": 'Bo "Q" O\'Neil', "email": "bo@rocket.example", "phone": "+1 555 0100"},
            {
                "name": "Cy Byron",
                "email": "cy@other.example",
                "metadata": {"tier": "1", "a b": "x"},
            },
            {"name": "Di King"},
        ):
            client.raw_request("post", "/v1/customers", **customer)
        yield client


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("email:'ada@rocket.example'", "Ada"),
        ('email:"ADA@rocket.example"', "Ada"),
        ("email~'rocket'", "Bo Ada"),
        ("email~'ROCK' AND name:'ada'", "Ada"),
        ("email~'rocket' name~'ada'", "Ada"),
        ("email~'rocket' and name~'ada'", "Ada"),
        ("name:'ada' OR name:'cy'", "Cy Ada"),
        ("name:'ada' or name:'cy' OR name:'di'", "Di Cy Ada"),
        ("name:'byron king'", "Ada"),
        ("name:'king byron'", ""),
        ("name:'Byr'", ""),
        ("-name:'byron'", "Di Bo"),
        ('name:"Bo \\"Q\\" O\'Neil"', "Bo"),
        ("name~'o\\'neil'", "Bo"),
        ("metadata['tier']:'gold'", "Ada"),
        ('metadata["tier"]:1', "Cy"),
        ("metadata['a b']:'x'", "Cy"),
        ("-metadata['tier']:null", "Cy Ada"),
        ("metadata['tier']:null", "Di Bo"),
        ("email:null", "Di"),
        ("phone:NULL AND -email:null", "Cy Ada"),
        (f"created:{int(NOW)}", "Di Cy Bo Ada"),
        (f"created>{int(NOW)}", ""),
        (f"created>='{int(NOW)}' AND created<={int(NOW)}", "Di Cy Bo Ada"),
        (f"created<{int(NOW)}", ""),
    ],
)
def test_customers_are_found(people: stripe.StripeClient, query: str, names: str) -> None:
    found = people.v1.customers.search({"query": query})
    assert [str(customer.name).split()[0] for customer in found.data] == names.split()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("asdf", "unable to parse"),
        ("", "unable to parse"),
        ("email:'a", "unable to parse"),
        ("email:ada", "unable to parse"),
        ("(name:'ada')", "unable to parse"),
        ("name:'ada' AND", "unable to parse"),
        ("AND name:'ada'", "unable to parse"),
        ("name:'ada''bo'", "unable to parse"),
        ("name:'ada' AND name:'bo' OR name:'cy'", "cannot combine AND and OR"),
        ("name:'ada' name:'bo' OR name:'cy'", "cannot combine AND and OR"),
        (" ".join(["name:'ada'"] * 11), "up to 10 clauses"),
        ("age:'1'", "Field `age` is an unsupported search field for resource `customers`"),
        ("metadata:'1'", "Field `metadata` is an unsupported search field"),
        ("name['a']:'1'", "Field `name` is an unsupported search field"),
        ("name>'ada'", "Operator `>` is not supported for field `name`"),
        ("created~'123'", "Operator `~` is not supported for field `created`"),
        ("metadata['a']~'gold'", "Operator `~` is not supported for field `metadata`"),
        ("created>null", "Operator `>` is not supported"),
        ("name~'ad'", "at least 3 characters"),
        ("created>'soon'", "Invalid number"),
    ],
)
def test_wrong_queries_are_refused(people: stripe.StripeClient, query: str, message: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=message) as caught:
        people.v1.customers.search({"query": query})
    assert caught.value.http_status == 400


def test_a_query_is_required(people: stripe.StripeClient) -> None:
    with refused(400, "parameter_missing", "query"):
        get(people, "/v1/customers/search")
    with refused(400, "parameter_unknown", "starting_after"):
        get(people, "/v1/customers/search", query="name:'ada'", starting_after="cus_1")


def test_pages_follow_one_another(people: stripe.StripeClient) -> None:
    query = "-name:'nobody'"
    first = people.v1.customers.search({"query": query, "limit": 3})
    assert (len(first.data), first.has_more) == (3, True)
    rest = people.v1.customers.search({"query": query, "limit": 3, "page": first.next_page})
    assert (len(rest.data), rest.has_more) == (1, False)
    names = [
        row.name
        for row in people.v1.customers.search({"query": query, "limit": 1}).auto_paging_iter()
    ]
    assert names == [row.name for row in [*first.data, *rest.data]]
    exact = people.v1.customers.search({"query": query, "limit": 4})
    assert (len(exact.data), exact.has_more) == (4, False)


@pytest.mark.parametrize("page", ["x", "Y3VzXzE=", "ÿ"])
def test_an_unknown_page_is_refused(people: stripe.StripeClient, page: str) -> None:
    with refused(400, None, "page"):
        people.v1.customers.search({"query": "name:'ada'", "page": page})


@pytest.mark.parametrize("limit", [0, 101])
def test_the_limit_is_checked(people: stripe.StripeClient, limit: int) -> None:
    with refused(400, "parameter_invalid_integer", "limit"):
        people.v1.customers.search({"query": "name:'ada'", "limit": limit})


def test_the_total_is_counted_on_request(people: stripe.StripeClient) -> None:
    query = "email~'rocket'"
    found = get(people, "/v1/customers/search", query=query, limit=1, expand=["total_count"])
    assert (len(found["data"]), found["total_count"]) == (1, 2)
    assert "total_count" not in get(people, "/v1/customers/search", query=query)


def test_results_are_expanded(reader: stripe.StripeClient) -> None:
    found = get(
        reader, "/v1/charges/search", query="status:'failed'", limit=1, expand=["data.customer"]
    )
    assert found["data"][0]["customer"]["object"] == "customer"


def _large_in_euros(charge: JSON) -> bool:
    return bool(charge["amount"] > 5000 and charge["currency"] == "eur")


def _card(charge: JSON, last4: str) -> bool:
    return bool((charge["payment_method_details"].get("card") or {}).get("last4") == last4)


@pytest.mark.parametrize(
    ("path", "query", "keeps"),
    [
        ("charges", "amount>5000 AND currency:'eur'", _large_in_euros),
        ("charges", "disputed:'true'", lambda c: c["disputed"]),
        ("charges", "refunded:'true'", lambda c: c["refunded"]),
        ("charges", "refunded:'false'", lambda c: c["amount_refunded"] and not c["refunded"]),
        ("charges", "refunded:null", lambda c: not c["amount_refunded"]),
        ("charges", "payment_method_details.card.last4:'4242'", lambda c: _card(c, "4242")),
        ("charges", "payment_method_details.card.last4:0505", lambda c: _card(c, "0505")),
        ("payment_intents", "-status:'succeeded'", lambda p: p["status"] != "succeeded"),
        ("invoices", "total>0 -subscription:null", lambda i: i["total"] > 0 and i["parent"]),
        ("prices", "active:'false'", lambda p: not p["active"]),
        ("products", "active:'true'", lambda p: p["active"]),
        ("subscriptions", "status:'canceled'", lambda s: s["status"] == "canceled"),
        ("subscriptions", "canceled_at>0", lambda s: s["canceled_at"]),
    ],
)  # fmt: skip
def test_each_type_is_found(
    business: Emulator,
    reader: stripe.StripeClient,
    path: str,
    query: str,
    keeps: Callable[[JSON], Any],
) -> None:
    wanted = [row["id"] for row in business.objects(path) if keeps(row)]
    assert wanted
    assert ids(reader, path, query) == wanted


def test_a_search_may_lag(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("late_search", seconds=60)
    made = api.v1.customers.create({"email": "new@lag.example"}).id
    query = "email:'new@lag.example'"
    assert not ids(api, "customers", query)
    assert [c.id for c in api.v1.customers.list({"email": "new@lag.example"}).data] == [made]
    emu.clock_advance(61)
    assert ids(api, "customers", query) == [made]


def test_deleted_customers_are_not_found(api: stripe.StripeClient) -> None:
    made = api.v1.customers.create({"email": "gone@lag.example"}).id
    api.v1.customers.delete(made)
    assert not ids(api, "customers", "email:'gone@lag.example'")


def test_a_search_needs_the_permission_of_its_type(emu: Emulator) -> None:
    emu.keys.add("rk_test_charges_only_1234", {"charge": "read"})
    client = client_of(emu, "rk_test_charges_only_1234")
    assert get(client, "/v1/charges/search", query="amount>0")["data"]
    with pytest.raises(stripe.PermissionError):
        get(client, "/v1/customers/search", query="name:'ada'")
