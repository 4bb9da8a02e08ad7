"""Requests to one account: reads the objects of records, with complete lists, and as trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from stripe_alloy.api.client import Params, Response, StripeClient
from stripe_alloy.api.errors import NotFoundError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import ListEndpoint
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.paths import segment
from stripe_alloy.api.requests import run
from stripe_alloy.api.schemas import generated, nested_lists
from target_stripe_alloy.params_tree import Tree
from target_stripe_alloy.plan.base_images import ObservedObject, state_of, trees_of
from target_stripe_alloy.plan.plan_types import DesiredState
from target_stripe_alloy.resources import BY_STREAM, Resource

EVENTS_PATH = "/v1/events"
_DECIDING = ("currency", "collection_method")
"""Fields that `normalize` and `permissions` need, whatever the record has."""

_VARIANTS = {stream.path: stream.list_variants for stream in OBJECT_TYPES if stream.list_variants}


class AccountClient:
    """Sends requests to one account."""

    def __init__(self, client: StripeClient, account: str | None) -> None:
        self._client = client
        self._account = account
        self.now = client.now

    def request(
        self, method: str, path: str, params: Params | str = (), key: str | None = None
    ) -> Response:
        """Send a request, with an idempotency key if there is one."""
        account = self._account
        return self._client.request(method, path, params, account=account, idempotency_key=key)

    def get(self, path: str, params: Params = ()) -> JSON | None:
        """Return an object; None if it does not exist, or is deleted."""
        try:
            body: JSON = self.request("GET", path, params).body
        except NotFoundError:
            return None
        return None if body.get("deleted") else body

    def read_again(self, seen: ObservedObject) -> JSON | None:
        """Return an object on which a plan is based as it is now; None if it no longer exists."""
        if seen.entry:
            return next((e for e in self.list(seen.path) if e["id"] == seen.entry), None)
        return self.get(seen.path, [("expand[]", name) for name in seen.expand])

    def list(self, path: str, params: Params = ()) -> Iterator[JSON]:
        """Yield the objects of a list, including those that it shows only on request."""
        for variant in _VARIANTS.get(path, ((),)):
            yield from self._client.paginate(path, [*params, *variant], account=self._account)

    def entries(self, resource: Resource, parent: str) -> Iterator[JSON]:
        """Yield the lines of an invoice, or the items of a subscription."""
        if resource.parent_field == "invoice":
            return self.list(f"/v1/invoices/{segment(parent)}/lines")
        return self.list("/v1/subscription_items", [("subscription", parent)])

    def current(
        self,
        resource: Resource,
        object_id: str,
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
    ) -> JSON | None:
        """Return the object of a record with these fields; None if it does not exist."""
        if resource.parent_field == "invoice":  # Stripe lists lines, and retrieves none
            invoice = str(tree.get("invoice") or fields.get("invoice") or "")
            if not invoice:
                return None
            entries = self.entries(resource, invoice)
            return next((entry for entry in entries if entry["id"] == object_id), None)
        found = self.get(resource.path_of(object_id, fields), expansions(resource, fields))
        return self.complete(resource, found) if found else None

    def complete(self, resource: Resource, source: JSON) -> JSON:
        """Return the object with the lists inside it completed, in place."""
        lists = NestedLists(_list_of(resource.stream), self._account)
        run(lists.complete([source]), lambda request: request.send(self._client))
        return source


def object_tree(wanted: DesiredState, current: JSON | None) -> dict[str, Tree]:
    """Return an object as a tree: the fields that the record has, items by their ids."""
    if current is None:
        return {}
    resource = wanted.resource
    names = {*wanted.fields, *wanted.tree, *resource.archive, *_DECIDING}
    if resource.replaced_on_change:
        names |= current.keys()  # a replacement has all fields
    return trees_of(resource, sorted(names), current)


def observed_objects(
    resource: Resource,
    current: JSON | None,
    fields: Mapping[str, Any] = MappingProxyType({}),
    parent: JSON | None = None,
) -> list[ObservedObject]:
    """Return the objects on which the plan of a request is based, for a check before a repeat.

    `fields` are the record's, `parent` is the invoice of a line, where it decides.
    """
    seen = []
    if parent and parent.get("id"):
        path = f"/v1/invoices/{segment(str(parent['id']))}"
        seen.append(ObservedObject(path, state_of(parent)))
    if current is None:
        return seen
    if resource.parent_field == "invoice":
        path = f"/v1/invoices/{segment(str(current['invoice']))}/lines"
        return [*seen, ObservedObject(path, state_of(current), entry=str(current["id"]))]
    path = resource.path_of(current["id"], current)
    expand = [name for _, name in expansions(resource, fields)]
    return [*seen, ObservedObject(path, state_of(current), expand)]


def expansions(resource: Resource, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the expansions with which an object is read, before and after it is written.

    The same both times: a field shown only once would look like a change by others.
    """
    # A replacement needs all fields.
    wanted = resource.expand_only
    if not resource.replaced_on_change:
        wanted &= fields.keys()
    expand = [("expand[]", name) for name in sorted(wanted)]
    if _holds_objects(fields.get("discounts")):
        expand.append(("expand[]", "discounts"))
    items = fields.get("items")
    entries = items.get("data") if isinstance(items, dict) else items
    if resource.item_stream and any(
        isinstance(entry, dict) and _holds_objects(entry.get("discounts"))
        for entry in entries or ()
    ):
        expand.append(("expand[]", "items.data.discounts"))
    return expand


@cache
def _list_of(stream: str) -> ListEndpoint:
    return ListEndpoint(BY_STREAM[stream].path, nested=nested_lists(generated(stream)))


def _holds_objects(value: Any) -> bool:
    return isinstance(value, Sequence) and any(isinstance(entry, dict) for entry in value)
