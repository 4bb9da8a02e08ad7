"""Payment methods: Stripe documents a list of all, yet some accounts get it refused or empty.

So the list of all is probed once per account, and trusted only if it also holds what a few
customers' own lists hold; else each customer's list is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError, StripeError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint
from stripe_alloy.api.paths import item_path
from stripe_alloy.api.requests import GetRequest
from tap_stripe_alloy.listing.list_backfill import ListBackfill
from tap_stripe_alloy.listing.windows import Page, PageRequest
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import Get, LocalRead, Step
from tap_stripe_alloy.sync_callbacks import SyncCallbacks

CUSTOMERS = "/v1/customers"
SAMPLED = 3
"""Customers whose own lists the list of all is held against."""
SAMPLE_LIMIT = 10
"""Payment methods looked at of each."""
FIELD = "payment_methods"
"""Where a customer's own list is kept while it is read."""


class AllMethods(ListBackfill):
    """The list of all payment methods, until it proves to lack some."""

    as_it_comes = False

    distrusted = ""
    """Why it cannot serve."""
    expected: set[str]
    """Ids that it must still show."""

    @override
    def next(self) -> Get | LocalRead | None:
        return None if self.distrusted else super().next()

    @override
    def _answered(self, ask: PageRequest, answer: Response) -> Iterator[Step]:
        if not answer.body["data"] and not ask.cursor:
            self.begin(answer)
            self.distrusted = "is empty"
            return
        yield from super()._answered(ask, answer)

    @override
    def _refused_page(self, ask: PageRequest, error: StripeError) -> Iterator[Step]:
        if not ask.cursor and isinstance(error, InvalidRequestError):
            self.distrusted = "is refused"
            return iter(())
        return super()._refused_page(ask, error)

    @override
    def _batch(self, page: Page, at: int | None, objects: Sequence[JSON]) -> Iterator[Step]:
        self.expected -= {source["id"] for source in objects}
        if self._slices.done and self.expected:
            self.distrusted = "lacks some"
        yield from super()._batch(page, at, objects)

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


class MethodsByCustomer(ListBackfill):
    """Walks all customers and reads the list of each."""

    as_it_comes = False

    @override
    def _params(self, ask: PageRequest) -> list[tuple[str, str]]:
        return [pair for pair in super()._params(ask) if pair[0] != "expand[]"]

    @override
    def _complete(self, page: Page, objects: Sequence[JSON], at: int | None) -> Iterator[Step]:
        for customer in objects:
            url = f"{item_path(CUSTOMERS, customer['id'])}/payment_methods"
            customer[FIELD] = {"data": [], "has_more": True, "url": url}
        yield from super()._complete(page, objects, at)

    @override
    def _batch(self, page: Page, at: int | None, objects: Sequence[JSON]) -> Iterator[Step]:
        methods = [method for customer in objects for method in customer[FIELD]["data"]]
        wanted = [new for new in methods if new["created"] >= self._start]
        yield from super()._batch(page, at, wanted)


class PaymentMethodListing:
    """Probes, then reads all payment methods by the list that serves."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        account: str | None,
        start: int,
        run: SyncCallbacks,
    ) -> None:
        self._outputs = outputs
        self.streams = [output.stream.name for output in outputs]
        self.account = account
        self._run = run
        self._logger = outputs[0].stream.logger
        kept = outputs[0].bookmark.backfill or {}
        self._all = AllMethods(outputs, listed, account=account, start=start, run=run)
        self._all.expected = set(kept.get("expected", ()))
        self._start = start
        self._customers = ListEndpoint(
            CUSTOMERS,
            expand=[f"{FIELD}.data.{path}" for path in listed.expand],
            nested=[(FIELD,)],
        )
        self._by_customer: MethodsByCustomer | None = None
        if kept.get("route") == "customers":
            self._go_by_customer()
        self._probed = "expected" in kept or "route" in kept
        self._probes_open = 0

    def next(self) -> Get | LocalRead | None:
        """Return the next page to ask for: of customers first, to know what to expect."""
        if not self._probed:
            self._probed = True
            self._probes_open = 1
            return self._probe(CUSTOMERS, SAMPLED, self._sampled)
        if self._probes_open:
            return None
        if self._all.distrusted and self._by_customer is None:
            self._restart()
            self._go_by_customer()
        return (self._by_customer or self._all).next()

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        return (self._by_customer or self._all).left()

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read payment methods, or customers where that is needed."""
        self._run.refused(self._outputs, error)

    def _probe(self, path: str, limit: int, then: Callable[[Response], Iterator[Step]]) -> Get:
        request = GetRequest(path, [("limit", str(limit))], self.account)
        return Get(request, then, self._cannot_probe)

    def _sampled(self, answer: Response) -> Iterator[Step]:
        self._all.begin(answer)
        customers = [source["id"] for source in answer.body["data"]]
        self._probes_open = len(customers)
        if not customers:
            self._all.note_expected()
        for customer in customers:
            path = f"{item_path(CUSTOMERS, customer)}/payment_methods"
            yield self._probe(path, SAMPLE_LIMIT, self._expect)

    def _expect(self, answer: Response) -> Iterator[Step]:
        self._all.expected |= {
            source["id"] for source in answer.body["data"] if source["created"] >= self._start
        }
        self._one_probed()
        return iter(())

    def _cannot_probe(self, error: StripeError) -> Iterator[Step]:
        """Read on unchecked where the key may not read customers; one may be gone meanwhile."""
        if isinstance(error, MissingPermissionError):
            self._logger.warning(
                "The list of all payment methods is read unchecked: the key may not read customers"
            )
        elif not error.missing:
            raise error
        self._one_probed()
        return iter(())

    def _one_probed(self) -> None:
        self._probes_open -= 1
        if not self._probes_open:
            self._all.note_expected()

    def _restart(self) -> None:
        self._logger.info(
            "The list of all payment methods %s on this account: reading each customer's own",
            self._all.distrusted,
        )
        for output in self._outputs:
            if output.bookmark.backfill is not None:
                output.bookmark.backfill["route"] = "customers"
                output.bookmark.left([(0, NO_UPPER_BOUND, None)])

    def _go_by_customer(self) -> None:
        self._by_customer = MethodsByCustomer(
            self._outputs,
            self._customers,
            account=self.account,
            start=self._start,
            run=self._run,
        )
