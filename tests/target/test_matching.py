"""Records that find their object by what people have: `match_by`, `on_missing`, several matches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api.errors import SettingsError, StripeUnavailable
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.settings import read_target_settings
from tests.emulator.helpers import client_of
from tests.target.helpers import Message, Run, lines_of, one, record, schema, settings_for, write

BY_EMAIL = {"match_by": {"customers": ["email"]}}
USERS = {"id_mode": "external"}
MODES: list[dict[str, Any]] = [BY_EMAIL, {**BY_EMAIL, **USERS}]


def customer(emulator: Emulator, email: str, **fields: Any) -> str:
    params: Any = {"email": email, **fields}
    return str(client_of(emulator).v1.customers.create(params).id)


def rows(*records: dict[str, Any], mode: dict[str, Any] | None = None) -> list[Message]:
    """Records of customers; in `external` with a key of their own."""
    external = bool(mode and "id_mode" in mode)
    key = ("crm_id",) if external else ("email",)
    own = [{"crm_id": f"k{n}"} if external else {} for n in range(len(records))]
    pairs = zip(own, records, strict=True)
    return [schema("customers", *key), *(record("customers", **k, **r) for k, r in pairs)]


def by_email(emulator: Emulator) -> Counter[str]:
    return Counter(found["email"] for found in emulator.objects("customers"))


# ---------------------------------------------------------------------- one record


@pytest.mark.parametrize("mode", MODES)
def test_a_customer_is_found_by_its_email(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    found = customer(empty, "ada@example.com")
    messages = rows({"email": "ada@example.com", "name": "Ada"}, mode=mode)
    run = write(empty, tmp_path, messages, **mode)
    assert run.counts("customers") == {"read": 1, "updated": 1}
    assert one(empty, "customers", found)["name"] == "Ada"
    assert not [request for request in run.requests if "search" in request.path]
    assert [r.path for r in write(empty, tmp_path, messages, **mode).requests] == ["/v1/account"]
    (tmp_path / "journal.db").unlink()
    assert write(empty, tmp_path, messages, **mode).writes == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("missing", "count"), [("create", "created"), ("skip", "skipped"), ("reject", "rejected")]
)
def test_a_record_without_an_object(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], missing: str, count: str
) -> None:
    messages = rows({"email": "ada@example.com", "name": "Ada"}, mode=mode)
    for counted in (count, "unchanged" if missing == "create" else count):
        run = write(empty, tmp_path, messages, on_missing=missing, **mode)
        assert run.counts("customers") == {"read": 1, counted: 1}
    (tmp_path / "journal.db").unlink()
    write(empty, tmp_path, messages, on_missing=missing, **mode)
    assert empty.count("customers") == (1 if missing == "create" else 0)


@pytest.mark.parametrize(("mode", "count"), zip(MODES, ["rejected", "created"], strict=True))
def test_the_default_is_that_of_the_mode(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], count: str
) -> None:
    run = write(empty, tmp_path, rows({"email": "a@example.com"}, mode=mode), **mode)
    assert run.counts("customers") == {"read": 1, count: 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("setting", ["reject", "oldest", "newest"])
def test_several_objects_with_the_same_email(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], setting: str
) -> None:
    ids = []
    for _ in range(2):
        ids.append(customer(empty, "ada@example.com"))
        empty.clock_advance(60.0)
    messages = rows({"email": "ada@example.com", "name": "Ada"}, mode=mode)
    run = write(empty, tmp_path, messages, on_several_matches=setting, **mode)
    named = [one(empty, "customers", found)["name"] for found in ids]
    if setting == "reject":
        assert named == [None, None]
        assert all(found in run.rejects[0]["reason"] for found in ids)
    else:
        assert named == (["Ada", None] if setting == "oldest" else [None, "Ada"])


@pytest.mark.parametrize("value", [None, "", {}, ["a@example.com"]])
@pytest.mark.parametrize("mode", MODES)
def test_an_empty_value_matches_nothing(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], value: Any
) -> None:
    customer(empty, "")
    messages = rows({"email": value, "name": "Ada"}, mode=mode)
    run = write(empty, tmp_path, messages, on_missing="create", **mode)
    assert run.counts("customers") == {"read": 1, "rejected": 1}
    assert empty.count("customers") == 1


@pytest.mark.parametrize("mode", MODES)
def test_two_rows_with_the_same_email_are_one_object(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    same = [{"email": "ada@example.com", "name": f"Ada {n}"} for n in range(8)]
    run = write(empty, tmp_path, rows(*same, mode=mode), on_missing="create", **mode)
    assert run.counts("customers") == {"read": 8, "created": 1, "updated": 7}
    assert [found["name"] for found in empty.objects("customers")] == ["Ada 7"]


def test_a_changed_record_is_looked_up_anew(empty: Emulator, tmp_path: Path) -> None:
    first = customer(empty, "ada@example.com")
    write(empty, tmp_path, rows({"email": "ada@example.com", "name": "Ada"}), **BY_EMAIL)
    client_of(empty).v1.customers.update(first, {"email": "else@example.com"})
    second = customer(empty, "ada@example.com")
    write(empty, tmp_path, rows({"email": "ada@example.com", "name": "New"}), **BY_EMAIL)
    assert one(empty, "customers", first)["name"] == "Ada"
    assert one(empty, "customers", second)["name"] == "New"


def test_a_users_key_stays_with_its_object_when_the_email_changes(
    empty: Emulator, tmp_path: Path
) -> None:
    mode = MODES[1]
    found = customer(empty, "old@example.com")
    write(empty, tmp_path, rows({"email": "old@example.com"}, mode=mode), **mode)
    write(empty, tmp_path, rows({"email": "new@example.com"}, mode=mode), **mode)
    assert one(empty, "customers", found)["email"] == "new@example.com"
    assert empty.count("customers") == 1


def test_an_object_that_is_gone_is_looked_up_anew(empty: Emulator, tmp_path: Path) -> None:
    mode = MODES[1]
    first = customer(empty, "ada@example.com")
    write(empty, tmp_path, rows({"email": "ada@example.com"}, mode=mode), **mode)
    client_of(empty).v1.customers.delete(first)
    second = customer(empty, "ada@example.com")
    write(empty, tmp_path, rows({"email": "ada@example.com", "name": "New"}, mode=mode), **mode)
    assert one(empty, "customers", second)["name"] == "New"


def test_a_record_with_an_id_is_that_object(empty: Emulator, tmp_path: Path) -> None:
    customer(empty, "ada@example.com")
    other = customer(empty, "bob@example.com")
    messages = [schema("customers"), record("customers", id=other, email="ada@example.com")]
    write(empty, tmp_path, messages, **BY_EMAIL)
    assert by_email(empty) == {"ada@example.com": 2}
    unknown = [schema("customers"), record("customers", id="cus_no", email="new@example.com")]
    run = write(empty, tmp_path, unknown, on_missing="create", **BY_EMAIL)
    assert run.counts("customers") == {"read": 1, "rejected": 1}


def test_a_tombstone_finds_its_object(empty: Emulator, tmp_path: Path) -> None:
    customer(empty, "ada@example.com")
    gone = [rows({"email": name, "deleted": True}) for name in ("ada@example.com", "no@x.com")]
    settings = {"delete_policy": "delete", "allow_actions": ["customers.delete"], **BY_EMAIL}
    counts = [write(empty, tmp_path, m, on_missing="create", **settings) for m in gone]
    assert [run.counts("customers") for run in counts] == [
        {"read": 1, "deleted": 1},
        {"read": 1, "unchanged": 1},
    ]
    assert empty.count("customers") == 0


# ---------------------------------------------------------------------- other fields


def test_prices_are_found_by_their_lookup_key(account: Emulator, tmp_path: Path) -> None:
    price = next(p for p in account.objects("prices") if p["lookup_key"])
    messages = [
        schema("prices", "lookup_key"),
        record("prices", lookup_key=price["lookup_key"], nickname="New"),
    ]
    run = write(account, tmp_path, messages, match_by={"prices": ["lookup_key"]})
    assert run.counts("prices") == {"read": 1, "updated": 1}
    assert one(account, "prices", price["id"])["nickname"] == "New"


def test_invoices_are_found_by_their_number(account: Emulator, tmp_path: Path) -> None:
    numbered = [found for found in account.objects("invoices") if found["number"]][:5]
    messages = [
        schema("invoices", "number"),
        *(record("invoices", number=i["number"], metadata={"a": "1"}) for i in numbered),
    ]
    run = write(account, tmp_path, messages, match_by={"invoices": ["number"]})
    assert run.counts("invoices") == {"read": 5, "updated": 5}
    lists = [
        r for r in run.requests if r.path == "/v1/invoices" and "starting_after" not in r.params
    ]
    assert len(lists) == 1
    assert all(one(account, "invoices", i["id"])["metadata"] == {"a": "1"} for i in numbered)


@pytest.mark.parametrize(
    "stream", ["customers", "products", "prices", "subscriptions", "invoices", "charges"]
)
def test_any_object_is_found_by_a_metadata_key(
    account: Emulator, tmp_path: Path, stream: str
) -> None:
    found = account.ids(stream)[-1]
    client = client_of(account)
    getattr(client.v1, stream).update(found, {"metadata": {"crm_id": "5"}})
    row = record(stream, metadata={"crm_id": 5, "new": "1"})
    run = write(account, tmp_path, [schema(stream), row], match_by={stream: ["metadata.crm_id"]})
    assert run.counts(stream) == {"read": 1, "updated": 1}
    assert one(account, stream, found)["metadata"]["new"] == "1"


def test_subscription_items_are_found_within_their_subscription(
    account: Emulator, tmp_path: Path
) -> None:
    live = {s["id"] for s in account.objects("subscriptions") if s["status"] == "active"}
    item = next(i for i in account.objects("subscription_items") if i["subscription"] in live)
    update: Any = {"metadata": {"crm_id": "5"}}
    client_of(account).v1.subscription_items.update(item["id"], update)
    rule = {"match_by": {"subscription_items": ["metadata.crm_id"]}}
    metadata = {"crm_id": "5", "new": "1"}
    within = record("subscription_items", subscription=item["subscription"], metadata=metadata)
    run = write(account, tmp_path, [schema("subscription_items"), within], **rule)
    assert run.counts("subscription_items") == {"read": 1, "updated": 1}
    alone = record("subscription_items", metadata={"crm_id": "5", "new": "2"})
    run = write(account, tmp_path, [schema("subscription_items"), alone], **rule)
    assert "within their subscription" in run.rejects[0]["reason"]


def test_what_this_run_changed_is_found_as_it_is_now(empty: Emulator, tmp_path: Path) -> None:
    found = client_of(empty).v1.products.create({"name": "A", "metadata": {"sku": "1"}}).id
    messages = [
        schema("products"),
        record("products", metadata={"sku": "1"}, name="B"),
        record("products", id=found, metadata={"sku": "2"}),
        record("products", metadata={"sku": "2"}, name="C"),
        record("products", metadata={"sku": "1"}, name="D"),
    ]
    settings = {"match_by": {"products": ["metadata.sku"]}, "max_concurrency": 1}
    run = write(empty, tmp_path, messages, **settings)
    assert run.counts("products") == {"read": 4, "updated": 3, "rejected": 1}
    assert empty.objects("products")[0]["name"] == "C"


# ---------------------------------------------------------------------- settings, plan, crashes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"match_by": {"products": ["name"]}}, "it is not unique"),
        ({"match_by": {"customers": ["name"]}}, "it is not unique"),
        ({"match_by": {"customers": ["lookup_key"]}}, "Use one of: email"),
        ({"match_by": {"customers": ["metadata."]}}, "cannot be matched"),
        ({"match_by": {"people": ["email"]}}, "a stream that cannot be written: 'people'"),
        ({"match_by": {"events": ["metadata.a"]}}, "a stream that cannot be written"),
        ({"match_by": {"customers": []}}, "needs a list of fields"),
        ({**BY_EMAIL, "id_mode": "copy"}, "does not go with `id_mode: copy`"),
        ({"on_missing": "create"}, "needs `match_by` in `same_account`"),
    ],
)
def test_what_is_not_exact_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_target_settings({"api_key": "rk_test_1", **settings})


@pytest.mark.parametrize(
    ("mode", "first", "second"),
    [
        (BY_EMAIL, "email", "email"),
        ({**BY_EMAIL, **USERS}, "email", "journal"),
        (USERS, "stamp", "journal"),
    ],
)
def test_the_plan_says_how_each_record_was_matched(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], first: str, second: str
) -> None:
    metadata: Any = {"crm_id": "k0"} if mode == USERS else {}
    found = customer(empty, "ada@example.com", metadata=metadata)
    plan = tmp_path / "plan.jsonl"
    for name, by in (("A", first), ("B", second)):
        messages = rows({"email": "ada@example.com", "name": name}, mode=mode)
        write(empty, tmp_path, messages, plan=str(plan), **mode)
        assert [line["matched"] for line in lines_of(plan)] == [{"by": by, "object": found}]
    new = rows({"email": "new@example.com", "name": "New"}, mode=mode)
    write(empty, tmp_path, new, plan=str(plan), on_missing="skip", **mode)
    matched = [line["matched"] for line in lines_of(plan) if line["verdict"] == "skipped"]
    assert matched == ([None] if mode == BY_EMAIL else [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_a_creation_whose_answer_was_lost_is_found_again(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], journal: str
) -> None:
    messages = rows({"email": "ada@example.com", "name": "Ada"}, mode=mode)
    config = settings_for(empty, tmp_path, on_missing="create", **mode)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(m) + "\n" for m in messages))
    empty.faults.add("cut_after", "/v1/customers", method="POST", times=None)
    command = [sys.executable, "-m", "target_stripe_alloy.target", "--config"]
    files = [str(tmp_path / "config.json"), "--input", str(tmp_path / "in.jsonl")]
    process = subprocess.Popen([*command, *files], stderr=subprocess.DEVNULL)
    while empty.count("customers") == 0:
        assert process.poll() is None
    process.kill()
    process.wait()
    empty.faults.clear()
    if journal == "lost":
        (tmp_path / "journal.db").unlink()
    write(empty, tmp_path, messages, on_missing="create", **mode)
    assert empty.count("customers") == 1


# ---------------------------------------------------------------------- tombstones

DELETING: dict[str, Any] = {"delete_policy": "delete", "allow_actions": ["customers.delete"]}
ADA = {"email": "ada@example.com"}
FIRST, SECOND = "2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z"


def gone(when: str, mode: dict[str, Any]) -> list[Message]:
    return rows(tombstone(when), mode=mode)


def tombstone(when: str) -> dict[str, Any]:
    """One that is another record each time: what the SDK adds does not count."""
    return {**ADA, "name": f"Ada until {when}", "_sdc_deleted_at": when}


def end(emulator: Emulator, folder: Path, when: str, mode: dict[str, Any], **more: Any) -> Run:
    return write(emulator, folder, gone(when, mode), **DELETING, **mode, **more)


def forget(folder: Path) -> None:
    for file in folder.glob("journal.db*"):
        file.unlink()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("several", ["reject", "oldest", "newest"])
@pytest.mark.parametrize("live_before", [False, True])
def test_a_tombstone_that_comes_again_deletes_nobody_else(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], several: str, live_before: bool
) -> None:
    customer(empty, ADA["email"])
    if live_before:
        write(empty, tmp_path, rows({**ADA, "name": "Ada"}, mode=mode), **mode)
    settings = {"on_several_matches": several}
    assert end(empty, tmp_path, FIRST, mode, **settings).counts("customers")["deleted"] == 1
    other = customer(empty, ADA["email"])
    again = end(empty, tmp_path, SECOND, mode, **settings)
    assert again.counts("customers") == {"read": 1, "unchanged": 1}
    assert empty.ids("customers") == [other]


@pytest.mark.parametrize("mode", MODES)
def test_a_tombstone_after_a_live_record_deletes_again(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    customer(empty, ADA["email"])
    end(empty, tmp_path, FIRST, mode)
    customer(empty, ADA["email"])
    write(empty, tmp_path, rows({**ADA, "name": "Ada"}, mode=mode), **mode)
    assert end(empty, tmp_path, SECOND, mode).counts("customers") == {"read": 1, "deleted": 1}
    assert empty.count("customers") == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_tombstone_that_found_nothing_deletes_nobody_later(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    end(empty, tmp_path, FIRST, mode)
    customer(empty, ADA["email"])
    end(empty, tmp_path, SECOND, mode)
    assert empty.count("customers") == 1


@pytest.mark.parametrize("mode", MODES)
def test_without_the_journal_a_tombstone_that_came_before_deletes_nobody_else(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    customer(empty, ADA["email"])
    end(empty, tmp_path, FIRST, mode)
    other = customer(empty, ADA["email"])
    forget(tmp_path)
    run = end(empty, tmp_path, SECOND, mode)
    assert "was deleted before" in run.rejects[0]["reason"]
    assert empty.ids("customers") == [other]


@pytest.mark.parametrize("mode", MODES)
def test_two_tombstones_of_one_run_delete_one(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    customer(empty, ADA["email"])
    twice = rows(*map(tombstone, (FIRST, SECOND)), mode=mode)
    run = write(empty, tmp_path, twice, **DELETING, **mode)
    assert run.counts("customers") == {"read": 2, "deleted": 1, "unchanged": 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("several", ["reject", "oldest", "newest"])
def test_a_deletion_takes_none_of_several(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], several: str
) -> None:
    for _ in range(2):
        customer(empty, ADA["email"])
    twice = rows(*map(tombstone, (FIRST, SECOND)), mode=mode)
    run = write(empty, tmp_path, twice, on_several_matches=several, **DELETING, **mode)
    assert run.counts("customers") == {"read": 2, "rejected": 2}
    assert empty.count("customers") == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_tombstone_of_what_others_deleted_deletes_nobody_else(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    first = customer(empty, ADA["email"])
    write(empty, tmp_path, rows({**ADA, "name": "Ada"}, mode=mode), **mode)
    client_of(empty).v1.customers.delete(first)
    customer(empty, ADA["email"])
    run = end(empty, tmp_path, FIRST, mode)
    assert run.counts("customers") == {"read": 1, "unchanged": 1}
    assert empty.count("customers") == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_tombstone_of_an_email_that_passed_on_deletes_nobody(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any]
) -> None:
    first = customer(empty, ADA["email"])
    write(empty, tmp_path, rows({**ADA, "name": "Ada"}, mode=mode), **mode)
    client_of(empty).v1.customers.update(first, {"email": "else@example.com"})
    second = customer(empty, ADA["email"])
    run = end(empty, tmp_path, FIRST, mode)
    assert run.counts("customers")["read"] == 1
    assert second in empty.ids("customers")


def test_a_tombstone_deletes_no_object_of_another_key(empty: Emulator, tmp_path: Path) -> None:
    customer(empty, ADA["email"], metadata={"crm_id": "another"})
    run = end(empty, tmp_path, FIRST, MODES[1])
    assert "has another key" in run.rejects[0]["reason"]
    assert empty.count("customers") == 1


def test_a_price_that_has_the_lookup_key_now_is_not_archived(
    empty: Emulator, tmp_path: Path
) -> None:
    api = client_of(empty).v1
    product = api.products.create({"name": "P"}).id

    def price() -> str:
        params: Any = {"product": product, "currency": "usd", "unit_amount": 5}
        params |= {"lookup_key": "pro", "transfer_lookup_key": True}
        return str(api.prices.create(params).id)

    def end_it(when: str) -> None:
        row = record("prices", lookup_key="pro", nickname=when, _sdc_deleted_at=when)
        settings: Any = {"delete_policy": "archive", "match_by": {"prices": ["lookup_key"]}}
        write(empty, tmp_path, [schema("prices", "lookup_key"), row], **settings)

    first = price()
    end_it(FIRST)
    newest = price()
    end_it(SECOND)
    assert not one(empty, "prices", first)["active"]
    assert one(empty, "prices", newest)["active"]


def test_a_tombstone_by_match_after_a_deletion_of_long_ago_deletes_nobody_else(
    empty: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 1)
    first = customer(empty, ADA["email"])
    empty.faults.add("cut_after", f"/v1/customers/{first}", method="DELETE", times=None)
    with pytest.raises(StripeUnavailable):
        end(empty, tmp_path, FIRST, BY_EMAIL)
    empty.faults.clear()
    assert empty.count("customers") == 0
    empty.clock_advance(25 * 3600.0)
    other = customer(empty, ADA["email"])
    run = end(empty, tmp_path, FIRST, BY_EMAIL)
    assert run.counts("customers") == {"read": 1, "unchanged": 1}
    assert empty.ids("customers") == [other]


# ---------------------------------------------------------------------- the journey


NUMBER, UNKNOWN, TWICE = 1_000, 30, 12
EXAMPLE = Path(__file__).parents[2] / "examples/csv_to_singer.py"


@pytest.fixture
def crm(empty: Emulator, tmp_path: Path) -> list[Message]:
    """A CSV with 1,000 emails, of which Stripe does not know 30 and has 12 twice."""
    api = client_of(empty).v1.customers
    for n in range(NUMBER - UNKNOWN):
        api.create({"email": f"{n}@example.com"})
    empty.clock_advance(60.0)
    for n in range(TWICE):
        api.create({"email": f"{n}@example.com"})
    lines = [f"{n}@example.com,Name {n},{n % 7}" for n in range(NUMBER)]
    path = tmp_path / "crm.csv"
    path.write_text("\n".join(["email,name,metadata.score", *lines]) + "\n")
    command = [sys.executable, str(EXAMPLE), "customers", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, {"updated": 958, "rejected": 42}),
        ({"on_missing": "skip"}, {"updated": 958, "skipped": 30, "rejected": 12}),
        (
            {"on_missing": "create", "on_several_matches": "oldest"},
            {"updated": 970, "created": 30},
        ),
    ],
)
def test_a_thousand_emails(
    empty: Emulator,
    tmp_path: Path,
    crm: list[Message],
    settings: dict[str, Any],
    counts: dict[str, int],
) -> None:
    def run() -> Run:
        return write(empty, tmp_path, crm, **BY_EMAIL, **settings)

    before = empty.count("customers")
    first = run()
    assert first.counts("customers") == {"read": NUMBER, **counts}
    assert empty.count("customers") == before + counts.get("created", 0)
    again = run()
    assert again.writes == []
    done = counts["updated"] + counts.get("created", 0)
    assert again.counts("customers")["unchanged"] == done
    asked = [request for request in again.requests if request.path != "/v1/account"]
    assert len(asked) == NUMBER - done
