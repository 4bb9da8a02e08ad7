"""docs/keys.md says what a restricted key needs: no less does, and no more is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.errors import MissingPermissionError
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.emulated_types import RESOURCES as KNOWN
from tap_stripe_alloy.access_check import key_link
from target_stripe_alloy.resources import RESOURCES, Resource
from tests.conftest import Command, config_of, read
from tests.target.helpers import record, schema, write

KEY = "rk_test_narrow"
SOME = [  # invoice items and payments share a permission that is not named like them
    *(kind for kind in OBJECT_TYPES if kind.name in ("invoice_items", "invoice_payments")),
    *DEFAULT_TYPES,
    *OBJECT_TYPES[len(DEFAULT_TYPES) :: 7],
]
WRITABLE = [resource for resource in RESOURCES if resource.writable and resource.update]


def objects_of(stream: Any) -> str:
    """The kind of object whose permission a stream needs."""
    name: str = (stream.parent or stream).object_name
    return name


def permissions(stream: Any, *more: str) -> dict[str, str]:
    """The permissions that a stream needs: its own and its parent's."""
    own = stream.object_name if stream.listed_by_parent else objects_of(stream)
    return dict.fromkeys(
        [KNOWN[objects_of(stream)].permission, KNOWN[own].permission, *more], "read"
    )


@pytest.mark.parametrize("stream", OBJECT_TYPES, ids=lambda stream: stream.name)
def test_a_stream_is_read_with_its_permission_alone(account: Emulator, stream: Any) -> None:
    account.keys.add(KEY, permissions(stream))
    output = read(config_of(account, api_key=KEY), stream.name)
    there = set(account.ids(stream.object_name))
    if stream.listed_by_parent:  # some may have no parent, such as what is not paid out yet
        assert set(output.ids(stream.name)) <= there
    else:
        assert set(output.ids(stream.name)) == there


@pytest.mark.parametrize("stream", SOME, ids=lambda stream: stream.name)
def test_its_changes_are_read_with_events_besides(account: Emulator, stream: Any) -> None:
    account.keys.add(KEY, permissions(stream, "event"))
    config = config_of(account, api_key=KEY)
    first = read(config, stream.name)
    account.clock_advance(60)
    assert read(config, stream.name, state=first.state).exit_code == 0


@pytest.mark.parametrize("stream", SOME, ids=lambda stream: stream.name)
def test_what_a_key_lacks_is_named_as_the_dashboard_does(
    account: Emulator, command: Command, stream: Any
) -> None:
    parent = stream.parent if stream.listed_by_parent else None
    others = [parent.key_permission] if parent and parent.permission != stream.permission else []
    account.keys.add(KEY, dict.fromkeys(["discount", *others], "read"))
    config = config_of(account, api_key=KEY)
    code, out, _ = command.text("--select", stream.name, "--test", config=config)
    assert code == 1
    line = next(line for line in out.splitlines() if line.startswith(f"{stream.name} "))
    assert f"the key lacks the permission '{stream.permission}'" in line


def test_the_link_to_stripes_form_names_the_permissions(
    account: Emulator, command: Command
) -> None:
    chosen = "charges,prices,payment_methods,customer_tax_ids"
    options = ("--select", chosen, "--test", "--key-link")
    code, out, _ = command.text(*options, config=config_of(account))
    assert code == 0
    url = urlsplit(out.splitlines()[-1])
    assert (url.netloc, url.path) == ("dashboard.stripe.com", "/apikeys/create")
    asked = {value for name, value in parse_qsl(url.query) if name == "permissions[]"}
    names = {"charge", "customer", "event", "payment_method", "plan"}
    assert asked == {f"rak_{name}_read" for name in names}


@pytest.mark.parametrize("stream", SOME, ids=lambda stream: stream.name)
def test_a_key_with_the_permissions_of_the_link_reads_the_stream(
    account: Emulator, stream: Any
) -> None:
    asked = parse_qsl(urlsplit(key_link([stream])).query)
    names = [value for name, value in asked if name == "permissions[]"]
    allowed = {name.removeprefix("rak_").removesuffix("_read"): "read" for name in names}
    account.keys.add(KEY, allowed)
    assert read(config_of(account, api_key=KEY), select=[stream.name]).exit_code == 0


def test_payment_methods_are_read_by_customer_with_both_permissions() -> None:
    with Emulator(customers=12, unscoped_payment_methods="refuse") as account:
        account.keys.add(KEY, {"payment_method": "read", "customer": "read"})
        output = read(config_of(account, api_key=KEY), "payment_methods")
        customers = set(account.ids("customer"))
        methods = account.objects("payment_method")
    attached = {method["id"] for method in methods if method["customer"] in customers}
    assert set(output.ids("payment_methods")) == attached


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_a_stream_is_written_with_its_permission_alone(
    account: Emulator, tmp_path: Path, resource: Resource
) -> None:
    account.keys.add(KEY, {_owner(resource): "write"})
    run = write(account, tmp_path, _edit(account, resource), api_key=KEY)
    assert run.counts(resource.stream)["read"] == 1
    assert "rejected" not in run.counts(resource.stream)


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_a_write_that_lacks_its_permission_names_it(
    account: Emulator, tmp_path: Path, resource: Resource
) -> None:
    account.keys.add(KEY, {_owner(resource): "read"})
    with pytest.raises(MissingPermissionError) as caught:
        write(account, tmp_path, _edit(account, resource), api_key=KEY)
    assert f"Writing {resource.stream} needs '{resource.permission}'" in str(caught.value)
    assert f"rak_{_permission(resource)}_write" in str(caught.value)


def _owner(resource: Resource) -> str:
    return objects_of(next(stream for stream in OBJECT_TYPES if stream.name == resource.stream))


def _permission(resource: Resource) -> str:
    return KNOWN[_owner(resource)].permission


def _edit(account: Emulator, resource: Resource) -> list[dict[str, Any]]:
    """A record that gives an object new metadata."""
    drafts = {row["id"] for row in account.objects("invoice") if row["status"] == "draft"}
    rows = [row for row in account.objects(resource.object_name) if _can_be_edited(row)]
    row = next(
        row for row in rows if resource.parent_field != "invoice" or row["invoice"] in drafts
    )
    fields = {"id": row["id"], "metadata": {"edited": "yes"}}
    if resource.parent_field:
        fields[resource.parent_field] = row[resource.parent_field]
    return [schema(resource.stream), record(resource.stream, **fields)]


def _can_be_edited(row: dict[str, Any]) -> bool:
    return "metadata" in row and row.get("status") not in ("canceled", "void", "lost", "won")
