"""Replaces prices whose amount changes by new ones.

Each step reads the current state first, so that a run continues one that was stopped in between.
"""

from __future__ import annotations

from collections.abc import Collection

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.paths import segment
from target_stripe_alloy.params_tree import Tree, get_path, leaves, trees_equal
from target_stripe_alloy.plan.base_images import trees_of
from target_stripe_alloy.plan.plan_types import REPLACES, PlannedRequest
from target_stripe_alloy.resources import BY_STREAM, Resource
from target_stripe_alloy.write.account_client import AccountClient, expansions, observed_objects
from target_stripe_alloy.write.journaled_sender import JournaledSender

STREAM = "prices"


class PriceReplacement:
    """The steps after the creation of a new price, and before the end of an old one."""

    def __init__(self, client: AccountClient, sender: JournaledSender) -> None:
        self._client = client
        self._sender = sender

    def find_new(self, old_id: str, current: JSON | None) -> JSON | None:
        """Return the price that already replaced a price, if a run could not note that."""
        product = (current or {}).get("product")
        prices = self._client.list("/v1/prices", [("product", str(product))])
        return next((p for p in prices if (p["metadata"] or {}).get(REPLACES) == old_id), None)

    def has_all(
        self, resource: Resource, new: JSON, names: Collection[str], request: PlannedRequest
    ) -> bool:
        """Whether a new price has the values that the record changes of the old one."""
        complete = (
            self._client.get(f"/v1/prices/{segment(new['id'])}", expansions(resource, new)) or new
        )
        theirs = trees_of(resource, sorted(names), complete)
        wanted = {name: tree for name, tree in request.params.items() if name in names}
        return all(trees_equal(leaf, get_path(theirs, path)) for path, leaf in leaves(wanted))

    def release_default(self, key: str, price: JSON, archiving: PlannedRequest) -> None:
        """Remove a price as its product's default, since Stripe archives no default price."""
        self._move_default(key, price, None, archiving.needs)

    def end(self, key: str, old_id: str, new: JSON) -> None:
        """Archive a replaced price; as a default price it is replaced first."""
        old = self._client.get(f"/v1/prices/{segment(old_id)}")
        if old is None or not old["active"]:
            return
        needed = frozenset({f"{STREAM}.replace"})
        self._move_default(key, old, new["id"], needed)
        params = {"active": "false"}
        archive = PlannedRequest(
            "archive", "POST", f"/v1/prices/{segment(old_id)}", params, needs=needed
        )
        seen = observed_objects(BY_STREAM[STREAM], old)
        self._sender.send(STREAM, key, archive, object_id=old_id, seen=seen)

    def _move_default(self, key: str, price: JSON, new: Tree, needs: frozenset[str]) -> None:
        path = f"/v1/products/{segment(price['product'])}"
        product = self._client.get(path)
        if product and product.get("default_price") == price["id"]:
            request = PlannedRequest(
                "default_price", "POST", path, {"default_price": new}, needs=needs
            )
            seen = observed_objects(BY_STREAM["products"], product)
            self._sender.send(STREAM, key, request, object_id=product["id"], seen=seen)
