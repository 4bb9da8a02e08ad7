"""Payment methods: Stripe documents a list of all, yet some accounts get it refused or empty.

So the list of all is read only if it holds what a few customers' own lists hold; else the list of
each customer is.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError, StripeError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint
from stripe_alloy.api.paths import item_path
from stripe_alloy.api.requests import Gather, GetRequest, Reader
from tap_stripe_alloy.listing.list_backfill import Completed, ListBackfill
from tap_stripe_alloy.listing.windows import Page, PageRequest
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import TapReader

CUSTOMERS = "/v1/customers"
SAMPLED = 3
"""Customers whose own lists are compared with the list of all."""
SAMPLE_LIMIT = 10
"""Payment methods compared of each."""
FIELD = "payment_methods"
"""Where a customer's own list is kept while it is read."""


def read_payment_methods(
    outputs: Sequence[StreamPartition], listed: ListEndpoint, *, start: int, completed: Completed
) -> TapReader[bool]:
    """Read all payment methods, by the list that serves; False if the backfill is outdated."""
    logger, bookmark = outputs[0].stream.logger, outputs[0].bookmark
    noted = bookmark.backfill or {}
    if noted.get("route") != "customers":
        methods = AllMethods(
            outputs, listed, start=start, completed=completed, missing=bookmark.missing
        )
        methods.expected = set(noted.get("expected", ()))
        if "expected" not in noted:
            yield from methods.sample()
        up_to_date = yield from methods.read()
        if not methods.distrusted:
            return up_to_date
        logger.info(
            "The list of all payment methods %s on this account: reading each customer's own",
            methods.distrusted,
        )
        methods.note_route()
    customers = ListEndpoint(
        CUSTOMERS, expand=[f"{FIELD}.data.{path}" for path in listed.expand], nested=[(FIELD,)]
    )
    by_customer = MethodsByCustomer(
        outputs, customers, start=start, completed=completed, missing=bookmark.missing
    )
    return (yield from by_customer.read())


class AllMethods(ListBackfill):
    """The list of all payment methods, until it proves to lack some."""

    as_it_comes = False

    distrusted = ""
    """Why it cannot serve."""
    expected: set[str]
    """Ids that it must still show."""

    def sample(self) -> Reader[None]:
        """Read the lists of a few customers, to know what to expect."""
        try:
            answer = yield self._sample(CUSTOMERS, SAMPLED)
        except StripeError as error:
            self._go_on_unchecked(error)
            return
        self.begin(answer)
        customers = [source["id"] for source in answer.body["data"]]
        yield Gather([self._expect_those_of(customer) for customer in customers])
        self.note_expected()

    def _expect_those_of(self, customer: str) -> Reader[None]:
        path = f"{item_path(CUSTOMERS, customer)}/payment_methods"
        try:
            answer = yield self._sample(path, SAMPLE_LIMIT)
        except StripeError as error:
            self._go_on_unchecked(error)
            return
        self.expected |= {
            source["id"] for source in answer.body["data"] if source["created"] >= self._start
        }

    def _sample(self, path: str, limit: int) -> GetRequest:
        params = [("limit", str(limit))]
        return GetRequest(path, params, self.account, streams=self.streams, timed=not self._begun)

    def _go_on_unchecked(self, error: StripeError) -> None:
        """Go on where the key may not read customers, and where one was deleted meanwhile."""
        if isinstance(error, MissingPermissionError):
            self.outputs[0].stream.logger.warning(
                "The list of all payment methods is read unchecked: the key may not read customers"
            )
        elif not error.missing:
            raise error

    @override
    def next(self) -> TapReader[None] | None:
        return None if self.distrusted else super().next()

    @override
    def _serves(self, ask: PageRequest, answer: Response) -> bool:
        serves = super()._serves(ask, answer)
        if serves and not answer.body["data"] and not ask.cursor:
            self.distrusted = "is empty"
        return serves and not self.distrusted

    @override
    def _refused(self, ask: PageRequest, error: StripeError) -> None:
        if not ask.cursor and isinstance(error, InvalidRequestError):
            self.distrusted = "is refused"
        else:
            super()._refused(ask, error)

    @override
    def _chosen(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        self.expected -= {source["id"] for source in objects}
        if self._planner.done and self.expected:
            self.distrusted = "lacks some"
        return objects

    @override
    def _written(self, page: Page) -> None:
        if not self.distrusted:
            super()._written(page)
        self.note_expected()

    def note_expected(self) -> None:
        """Keep in the state what is still to be shown: a resumed run must ask for it too."""
        for output in self.outputs:
            if output.bookmark.backfill is not None:
                output.bookmark.backfill["expected"] = sorted(self.expected)

    def note_route(self) -> None:
        """Note in the state that each customer's own list is read from now on."""
        for output in self.outputs:
            if output.bookmark.backfill is not None:
                output.bookmark.backfill["route"] = "customers"
                output.bookmark.left([(0, NO_UPPER_BOUND, None)])


class MethodsByCustomer(ListBackfill):
    """Reads all customers, and the payment methods of each."""

    as_it_comes = False

    @override
    def _params(self, ask: PageRequest) -> list[tuple[str, str]]:
        return [pair for pair in super()._params(ask) if pair[0] != "expand[]"]

    @override
    def _complete(self, objects: Sequence[JSON]) -> Reader[list[JSON]]:
        for customer in objects:
            url = f"{item_path(CUSTOMERS, customer['id'])}/payment_methods"
            customer[FIELD] = {"data": [], "has_more": True, "url": url}
        return super()._complete(objects)

    @override
    def _chosen(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        methods = [method for customer in objects for method in customer[FIELD]["data"]]
        return [new for new in methods if new["created"] >= self._start]
