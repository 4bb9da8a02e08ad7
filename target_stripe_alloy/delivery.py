"""Sends writes exactly once: into the journal, to Stripe, and what came of it into the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlencode

from stripe_alloy import errors
from stripe_alloy.errors import NotFound, RequestRefused, StripeError
from stripe_alloy.transport import Transport
from target_stripe_alloy.decision import COPY, Request
from target_stripe_alloy.journal import (
    ABANDONED,
    DONE,
    FAILED,
    Intent,
    Journal,
    Known,
    Outcome,
)
from target_stripe_alloy.journal_keys import metadata_in
from target_stripe_alloy.objects import Objects
from target_stripe_alloy.record_keys import Keys, described
from target_stripe_alloy.reshape import pairs_of
from target_stripe_alloy.resources import BY_STREAM, Object, Resource

_logger = logging.getLogger(__name__)

KEPT = 23 * 3600.0
"""Seconds in which an idempotency key is trusted; Stripe keeps it for at least 24 hours."""
MAKING = frozenset({"create", "replace"})
_NOT_DONE = (
    errors.KeyRejected,
    errors.PermissionMissing,
    errors.AccountRejected,
    errors.RateLimited,
)
"""Refused before anything was done."""


class Unclear(Exception):
    """Stripe repeats a failure it once answered with: whether the write worked must be read."""


class Delivery:
    """Writes of one account; `learned` is told the ids of what came to be."""

    def __init__(
        self,
        transport: Transport,
        journal: Journal,
        objects: Objects,
        *,
        account: str | None,
        id_mode: str,
        learned: Callable[[Known], None],
    ) -> None:
        self._transport = transport
        self._journal = journal
        self._objects = objects
        self._account = account
        self._id_mode = id_mode
        self._learned = learned

    def send(self, stream: str, key: str, request: Request) -> Object | None:
        """Write; the stream's object as it is now, if the answer holds it.

        Raises `Unclear`, or the `StripeError` of the refusal or the outage.
        """
        body = urlencode(list(pairs_of(dict(request.params))))
        intent = self._journal.intend(stream, key, request.kind, request.method, request.path, body)
        return self._deliver(intent)

    def recover(self) -> None:
        """Find out what became of the writes that were under way when a run ended."""
        for intent in self._journal.unanswered():
            what = f"{intent.kind} {intent.stream} {described(intent.key)}"
            if intent.method == "POST" and self._transport.now() - intent.made_at >= KEPT:
                self._journal.answer(intent, Outcome(ABANDONED))
                _logger.info("%s: under way too long ago to send it again; it is looked up", what)
                continue
            try:
                self._deliver(intent)
            except (RequestRefused, Unclear) as error:
                _logger.warning("%s: sent again after a stop, and refused: %s", what, error)
            else:
                _logger.info("%s: sent again after a stop", what)

    def _deliver(self, intent: Intent) -> Object | None:
        post = intent.method == "POST"
        try:
            answer = self._transport.request(
                intent.method,
                intent.path,
                intent.body,
                account=self._account,
                idempotency_key=intent.idempotency_key if post else None,
            )
        except StripeError as error:
            self._not_done(intent, error)
            return None
        result = self._made(BY_STREAM[intent.stream], answer.body, intent)
        known = self._known(intent, result)
        outcome = Outcome(DONE, 200, answer.request_id, result["id"] if result else None)
        self._journal.answer(intent, outcome, known)
        for entry in known:
            self._learned(entry)
        return result

    def _not_done(self, intent: Intent, error: StripeError) -> None:
        failure = error.failure
        if isinstance(error, NotFound) and intent.method == "DELETE":
            # It worked the first time, or somebody else was faster.
            self._journal.answer(intent, Outcome(DONE, failure.status, failure.request_id))
            return
        if isinstance(error, errors.StripeUnavailable) and failure.replayed:
            self._journal.answer(intent, Outcome(ABANDONED, failure.status, failure.request_id))
            raise Unclear(str(failure)) from None
        refused = isinstance(error, RequestRefused) and not isinstance(error, errors.Conflict)
        if refused or isinstance(error, _NOT_DONE):
            text = str(failure)[:2000]
            self._journal.answer(
                intent, Outcome(FAILED, failure.status, failure.request_id, error=text)
            )
        raise error  # otherwise the outcome is open, and so is the intent

    def _made(self, resource: Resource, body: Object, intent: Intent) -> Object | None:
        """The stream's object in an answer; a new line is looked up by its stamp."""
        if body.get("object") == resource.object_name:
            return body
        if intent.kind not in MAKING or resource.within != "invoice":
            return None
        stamp = metadata_in(intent.body).items()
        for entry in self._objects.entries(resource, body["id"]):
            if stamp <= (entry.get("metadata") or {}).items():
                return entry
        return None

    def _known(self, intent: Intent, result: Object | None) -> list[Known]:
        if result is None or intent.kind not in MAKING:
            return []
        known = [Known(intent.stream, intent.key, result["id"])]
        inside = BY_STREAM[intent.stream].contains
        if inside and self._id_mode == COPY:
            keys = Keys(COPY, ())
            stamped = [(keys.stamp_of(e), e["id"]) for e in result["items"]["data"]]
            known += [Known(inside, key, made) for key, made in stamped if key]
        return known
