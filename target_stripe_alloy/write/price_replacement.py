"""Prices whose amount changes: a new one takes the old one's place.

Each step looks at what is there, so that a run that was stopped between two of them goes on.
"""

from __future__ import annotations

from collections.abc import Collection

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.paths import segment
from target_stripe_alloy.params_tree import Tree, alike, at, leaves
from target_stripe_alloy.plan.base_images import trees_of
from target_stripe_alloy.plan.plan_types import REPLACES, PlannedRequest
from target_stripe_alloy.resources import BY_STREAM, Resource
from target_stripe_alloy.write.journaled_sender import JournaledSender
from target_stripe_alloy.write.object_reader import Objects, expansions, seen_as

STREAM = "prices"


class PriceReplacement:
    """What follows from a new price, and what precedes the end of one."""

    def __init__(self, objects: Objects, delivery: JournaledSender) -> None:
        self._objects = objects
        self._delivery = delivery

    def successor(self, before: str, current: JSON | None) -> JSON | None:
        """The price that already took a price's place, if a run made it and could not note it."""
        product = (current or {}).get("product")
        prices = self._objects.list("/v1/prices", [("product", str(product))])
        return next((p for p in prices if (p["metadata"] or {}).get(REPLACES) == before), None)

    def has_all(
        self, resource: Resource, heir: JSON, names: Collection[str], request: PlannedRequest
    ) -> bool:
        """Whether a price that took another one's place has what the record changes of that."""
        whole = (
            self._objects.get(f"/v1/prices/{segment(heir['id'])}", expansions(resource, heir))
            or heir
        )
        theirs = trees_of(resource, sorted(names), whole)
        wanted = {name: tree for name, tree in request.params.items() if name in names}
        return all(alike(leaf, at(theirs, path)) for path, leaf in leaves(wanted))

    def release(self, key: str, price: JSON, archiving: PlannedRequest) -> None:
        """Stripe archives no default price: its product has none from now on."""
        self._pass_on(key, price, None, archiving.needs)

    def end(self, key: str, before: str, successor: JSON) -> None:
        """Archive the price that has a successor; as a default price it is replaced first."""
        old = self._objects.get(f"/v1/prices/{segment(before)}")
        if old is None or not old["active"]:
            return
        needed = frozenset({f"{STREAM}.replace"})
        self._pass_on(key, old, successor["id"], needed)
        params = {"active": "false"}
        archive = PlannedRequest(
            "archive", "POST", f"/v1/prices/{segment(before)}", params, needs=needed
        )
        seen = seen_as(BY_STREAM[STREAM], old)
        self._delivery.send(STREAM, key, archive, object_id=before, seen=seen)

    def _pass_on(self, key: str, price: JSON, heir: Tree, needs: frozenset[str]) -> None:
        path = f"/v1/products/{segment(price['product'])}"
        product = self._objects.get(path)
        if product and product.get("default_price") == price["id"]:
            request = PlannedRequest(
                "default_price", "POST", path, {"default_price": heir}, needs=needs
            )
            seen = seen_as(BY_STREAM["products"], product)
            self._delivery.send(STREAM, key, request, object_id=product["id"], seen=seen)
