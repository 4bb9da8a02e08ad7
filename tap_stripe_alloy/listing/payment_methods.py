"""Backfills payment methods, from one list or from each customer's list.

Stripe documents `/v1/payment_methods`, but for some accounts it is refused or incomplete. It is
used only if it contains the payment methods of a few sampled customers. Otherwise each customer's
list is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError, StripeError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import CHILDREN, NO_UPPER_BOUND, ListEndpoint
from stripe_alloy.api.paths import item_path
from stripe_alloy.api.requests import Gather, GetRequest, Reader
from tap_stripe_alloy.listing.list_backfill import Completed, ListBackfill
from tap_stripe_alloy.listing.windows import Page, PageRequest
from tap_stripe_alloy.records.partitions import StreamPartition, created_at
from tap_stripe_alloy.scheduler import TapReader

CUSTOMERS = "/v1/customers"
SAMPLED = 3
"""Number of customers whose payment methods must be in `/v1/payment_methods`."""
SAMPLE_LIMIT = 10
"""Payment methods to compare per customer."""


def read_payment_methods(
    partitions: Sequence[StreamPartition], listed: ListEndpoint, *, start: int, completed: Completed
) -> TapReader[bool]:
    """Read all payment methods; return False if the backfill is outdated."""
    logger, bookmark = partitions[0].stream.logger, partitions[0].bookmark
    noted = bookmark.backfill or {}
    if noted.get("route") != "customers":
        methods = AllMethods(
            partitions, listed, start=start, completed=completed, remaining=bookmark.remaining
        )
        methods.expected = set(noted.get("expected", ()))
        if "expected" not in noted:
            yield from methods.sample()
        up_to_date = yield from methods.read()
        if not methods.distrusted:
            return up_to_date
        logger.info(
            "/v1/payment_methods %s for this account: reading each customer's list instead",
            methods.distrusted,
        )
        methods.note_route()
    customers = ListEndpoint(
        CUSTOMERS,
        expand=[f"{CHILDREN}.data.{path}" for path in listed.expand],
        nested=[(CHILDREN,)],
        child_list=f"{CUSTOMERS}/{{}}/payment_methods",
    )
    by_customer = MethodsByCustomer(
        partitions, customers, start=start, completed=completed, remaining=bookmark.remaining
    )
    return (yield from by_customer.read())


class AllMethods(ListBackfill):
    """Backfills `/v1/payment_methods` until it turns out to be incomplete."""

    passes_through = False

    distrusted = ""
    """Why the list cannot be used; empty if it can."""
    expected: set[str]
    """Ids of sampled payment methods that have not appeared in the list yet."""

    def sample(self) -> Reader[None]:
        """Read the payment methods of a few customers, which the list must contain."""
        try:
            answer = yield self._sample(CUSTOMERS, SAMPLED)
        except StripeError as error:
            self._skip_check(error)
            return
        self.begin(answer)
        customers = [source["id"] for source in answer.body["data"] if self._has_id(source)]
        yield Gather([self._expect_methods_of(customer) for customer in customers])
        self.note_expected()

    def _expect_methods_of(self, customer: str) -> Reader[None]:
        path = f"{item_path(CUSTOMERS, customer)}/payment_methods"
        try:
            answer = yield self._sample(path, SAMPLE_LIMIT)
        except StripeError as error:
            self._skip_check(error)
            return
        self.expected |= {
            source["id"]
            for source in answer.body["data"]
            if self._has_id(source) and _is_since(source, self._start)
        }

    def _sample(self, path: str, limit: int) -> GetRequest:
        params = [("limit", str(limit))]
        return GetRequest(
            path,
            params,
            self.account,
            streams=self.streams,
            some_lack_ids=True,
            all_lack_ids=path != CUSTOMERS,
            timed=not self._started,
        )

    def _skip_check(self, error: StripeError) -> None:
        """Continue if the key may not read customers, or if a customer was deleted meanwhile."""
        if isinstance(error, MissingPermissionError):
            self.partitions[0].stream.logger.warning(
                "/v1/payment_methods is read without a completeness check: the key may not read "
                "customers"
            )
        elif not error.missing:
            raise error

    @override
    def next(self) -> TapReader[None] | None:
        return None if self.distrusted else super().next()

    @override
    def _accept_response(self, page_request: PageRequest, answer: Response) -> bool:
        accepted = super()._accept_response(page_request, answer)
        if accepted and not answer.body["data"] and not page_request.cursor:
            self.distrusted = "is empty"
        return accepted and not self.distrusted

    @override
    def _handle_error(self, page_request: PageRequest, error: StripeError) -> None:
        if not page_request.cursor and isinstance(error, InvalidRequestError):
            self.distrusted = "is refused"
        else:
            super()._handle_error(page_request, error)

    @override
    def _select_objects(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        self.expected -= {source["id"] for source in objects}
        if self._planner.done and self.expected:
            self.distrusted = "is incomplete"
        return objects

    @override
    def _page_written(self, page: Page) -> None:
        if not self.distrusted:
            super()._page_written(page)
        self.note_expected()

    def note_expected(self) -> None:
        """Save the expected ids in the state: a resumed run must check for them too."""
        for partition in self.partitions:
            if partition.bookmark.backfill is not None:
                partition.bookmark.backfill["expected"] = sorted(self.expected)

    def note_route(self) -> None:
        """Note in the state that each customer's list is read from now on."""
        for partition in self.partitions:
            if partition.bookmark.backfill is not None:
                partition.bookmark.backfill["route"] = "customers"
                partition.bookmark.set_remaining([(0, NO_UPPER_BOUND, None)])


class MethodsByCustomer(ListBackfill):
    """Backfills the payment methods of each customer."""

    passes_through = False

    @override
    def _select_objects(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        methods = [method for customer in objects for method in customer[CHILDREN]["data"]]
        return [new for new in methods if _is_since(new, self._start)]


def _is_since(source: JSON, start: int) -> bool:
    """Whether an object was created from `start` on; True if it has no valid time."""
    created = created_at(source)
    return created is None or created >= start
