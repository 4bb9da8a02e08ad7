"""Prices whose amount changes: a new one takes the old one's place.

Each step looks at what is there, so that a run that was stopped between two of them goes on.
"""

from __future__ import annotations

from target_stripe_alloy.decision import REPLACES, Request
from target_stripe_alloy.delivery import Delivery
from target_stripe_alloy.objects import Objects
from target_stripe_alloy.reshape import Tree
from target_stripe_alloy.resources import Object

STREAM = "prices"


class Succession:
    """What follows from a new price, and what precedes the end of one."""

    def __init__(self, objects: Objects, delivery: Delivery) -> None:
        self._objects = objects
        self._delivery = delivery

    def successor(self, before: str, current: Object | None) -> Object | None:
        """The price that already took a price's place, if a run made it and could not note it."""
        product = (current or {}).get("product")
        prices = self._objects.list("/v1/prices", [("product", str(product))])
        return next((p for p in prices if (p["metadata"] or {}).get(REPLACES) == before), None)

    def release(self, key: str, price: Object) -> None:
        """Stripe archives no default price: its product has none from now on."""
        self._pass_on(key, price, None)

    def end(self, key: str, before: str, successor: Object) -> None:
        """Archive the price that has a successor; as a default price it is replaced first."""
        old = self._objects.get(f"/v1/prices/{before}")
        if old is None or not old["active"]:
            return
        self._pass_on(key, old, successor["id"])
        archive = Request("archive", "POST", f"/v1/prices/{before}", {"active": "false"})
        self._delivery.send(STREAM, key, archive)

    def _pass_on(self, key: str, price: Object, heir: Tree) -> None:
        path = f"/v1/products/{price['product']}"
        product = self._objects.get(path)
        if product and product.get("default_price") == price["id"]:
            request = Request("default_price", "POST", path, {"default_price": heir})
            self._delivery.send(STREAM, key, request)
