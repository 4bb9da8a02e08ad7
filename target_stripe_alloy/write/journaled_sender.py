"""Sends requests exactly once: intent to the journal, request to Stripe, result to the journal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlencode

import msgspec

from stripe_alloy.api import errors
from stripe_alloy.api.client import Params, Response
from stripe_alloy.api.errors import InvalidRequestError, NotFoundError, StripeError
from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import form_fields
from target_stripe_alloy.plan.base_images import (
    Context,
    DraftImage,
    ObservedObject,
    image_of,
    is_complete,
    state_of,
)
from target_stripe_alloy.plan.effects import tag_of
from target_stripe_alloy.plan.form_bodies import tree_from_form
from target_stripe_alloy.plan.plan_types import IdMode, PlannedRequest, Policy
from target_stripe_alloy.plan.record_keys import RecordKey, described
from target_stripe_alloy.plan.recovery import withdrawn
from target_stripe_alloy.resources import BY_STREAM, Resource
from target_stripe_alloy.write.account_client import AccountClient
from target_stripe_alloy.write.id_resolver import IdResolver
from target_stripe_alloy.write.journal import (
    Effect,
    Intent,
    IntentResult,
    IntentStatus,
    Journal,
    JournalEntry,
)
from target_stripe_alloy.write.journal_keys import CREATING_KINDS, metadata_in
from target_stripe_alloy.write.past_effects import was_executed

_logger = logging.getLogger(__name__)

IDEMPOTENCY_KEY_TTL = 23 * 3600.0
"""Seconds in which an idempotency key is trusted; Stripe keeps it for at least 24 hours."""
_NOT_EXECUTED = (
    errors.AuthenticationError,
    errors.MissingPermissionError,
    errors.AccountAccessError,
    errors.RateLimited,
)
"""Errors that Stripe returns before it executes anything."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Context).decode


class UnknownOutcome(Exception):
    """Stripe replayed an earlier response: whether it executed the request must be read."""


@dataclass(frozen=True)
class Sent:
    """A request that Stripe executed."""

    result: JSON | None
    """The stream's object as it is now, if the response has it."""
    image_saved: bool
    """Whether the journal has the record's base image already."""


class JournaledSender:
    """Sends the requests to one account. Thread-safe."""

    def __init__(
        self, client: AccountClient, journal: Journal, ids: IdResolver, policy: Policy
    ) -> None:
        self._client = client
        self._journal = journal
        self._ids = ids
        self._policy = policy

    def send(
        self,
        stream: str,
        key: str,
        request: PlannedRequest,
        *,
        object_id: str | None = None,
        draft: DraftImage | None = None,
        expand: Params = (),
        seen: Sequence[ObservedObject] = (),
    ) -> Sent:
        """Send a request; raises `UnknownOutcome`, or the `StripeError` of a refusal or outage.

        `draft` is the base image of the record after this request, `expand` what the response
        expands, `seen` the objects on which the plan is based.
        """
        body = urlencode([*form_fields(dict(request.params)), *expand])
        pipeline = self._journal.pipeline
        context = Context(sorted(request.needs), request.effects, object_id, draft, seen, pipeline)
        tag = "".join(tag_of(name) for name, lasting in request.effects[:1] if lasting)
        intent = self._journal.intend(
            stream, key, request.kind, request.method, request.path, body, _encode(context), tag
        )
        return self._request(intent, context, again=False)

    def recover(self) -> None:
        """Resolve the requests of earlier runs whose responses were never journaled."""
        for intent in self._journal.unanswered():
            self._recover(intent)

    def _recover(self, intent: Intent) -> None:
        what = f"{intent.kind} {intent.stream} {described(intent.key)}"
        context = _decode(intent.context) if intent.context else None
        why = self._why_not_again(intent, context)
        if why:
            self._abandon(intent, context)
            _logger.warning(
                "%s: not sent again. A run ended before its response came, and %s. Whether Stripe "
                "executed it is read when its record comes",
                what,
                why,
            )
            return
        try:
            self._request(intent, context or Context(), again=True)
        except errors.ConcurrentRequestError:
            raise  # it is still in progress: with another key it might be executed twice
        except (InvalidRequestError, UnknownOutcome) as error:
            _logger.warning("%s: sent again after an interrupted run, and refused: %s", what, error)
        else:
            _logger.info("%s: sent again after an interrupted run", what)

    def _why_not_again(self, intent: Intent, context: Context | None) -> str:
        """Return why a request is not to be sent again; empty if it is."""
        resource, id_mode = BY_STREAM[intent.stream], intent.scope.rpartition("/")[2]
        lacking = withdrawn(resource, intent.kind, intent.body, context, self._policy, id_mode)
        if lacking:
            return f"{', '.join(lacking)} is not allowed any more"
        if self._client.now() - intent.made_at >= IDEMPOTENCY_KEY_TTL:
            return "that is too long ago"
        if self._may_repeat(intent, context):
            return ""
        return "its object has changed since, without an event that shows that Stripe executed it"

    def _may_repeat(self, intent: Intent, context: Context | None) -> bool:
        """Whether a request is still right, or was executed: then Stripe replays its response."""
        if self._is_still_right(intent, context or Context()):
            return True
        if intent.method != "POST":
            return False
        key, path = intent.idempotency_key, intent.path
        executed = was_executed(self._client, key, path, intent.made_at)
        if executed is None:  # a new request for an action that was undone since would repeat it
            return intent.kind in BY_STREAM[intent.stream].actions
        return executed

    def _is_still_right(self, intent: Intent, context: Context) -> bool:
        """Whether all objects on which the plan of a request is based are unchanged."""
        if intent.kind == "create" and self._ids.is_matched(
            BY_STREAM[intent.stream], tree_from_form(intent.body)
        ):
            return False
        if context.seen is None:  # an intent of an earlier release
            return intent.kind == "create"
        return all(self._is_unchanged(seen, intent) for seen in context.seen)

    def _is_unchanged(self, seen: ObservedObject, intent: Intent) -> bool:
        try:
            found = self._client.read_again(seen)
        except InvalidRequestError:
            return False
        if found is None:
            return intent.method == "DELETE"  # done, or superfluous: the response is the same
        return state_of(found) == seen.state

    def _abandon(self, intent: Intent, context: Context | None) -> None:
        """Close an intent that will not be sent again."""
        object_id = context.object_id if context else None
        ends = context is not None and context.draft is not None and context.draft.ours is None
        known = []
        if ends and object_id and intent.scope == self._journal.scope.name:
            # Its tombstone is for this object, even if the object is deleted by then.
            known = [JournalEntry(intent.stream, intent.key, object_id)]
        self._journal.answer(intent, IntentResult(IntentStatus.ABANDONED), known)

    def _request(self, intent: Intent, context: Context, *, again: bool) -> Sent:
        key = intent.idempotency_key if intent.method == "POST" else None
        try:
            response = self._client.request(intent.method, intent.path, intent.body, key)
        except StripeError as error:
            return self._on_error(intent, context, error)
        if response.replayed and response.tries == 1 and not again:
            # This key was never sent before: the response is of another request.
            self._journal.answer(
                intent, IntentResult(IntentStatus.ABANDONED, 200, response.request_id)
            )
            raise UnknownOutcome(
                f"Stripe answered a new request with an old response {response.request_id}"
            )
        return self._on_success(intent, context, response)

    def _on_success(self, intent: Intent, context: Context, response: Response) -> Sent:
        resource = BY_STREAM[intent.stream]
        result = self._result_of(resource, response.body, intent)
        known, image_saved = self._entries_of(resource, intent, context, result)
        if intent.scope != self._journal.scope.name:
            known = []  # the records of this run are identified differently
        outcome = IntentResult(IntentStatus.DONE, 200, response.request_id)
        self._note(intent, context, known, result, outcome)
        for entry in known:
            if entry.new_object:
                self._ids.remember(entry.stream, entry.key, str(entry.object_id))
        return Sent(result, image_saved)

    def _note(
        self,
        intent: Intent,
        context: Context,
        known: Sequence[JournalEntry],
        result: JSON | None,
        outcome: IntentResult,
    ) -> None:
        """Save the result of a request, with its entries and effects, in one transaction."""
        object_id = result["id"] if result else context.object_id
        effects = [
            Effect(intent.stream, object_id, name, lasting, context.pipeline)
            for name, lasting in context.effects
            if object_id
        ]
        self._journal.answer(intent, replace(outcome, object_id=object_id), known, effects)

    def _on_error(self, intent: Intent, context: Context, error: StripeError) -> Sent:
        failure = error.failure
        if isinstance(error, NotFoundError) and intent.method == "DELETE":
            # It is deleted already: by the first try, or by others.
            known = self._entries_of(BY_STREAM[intent.stream], intent, context, None)[0]
            outcome = IntentResult(IntentStatus.DONE, failure.status, failure.request_id)
            self._note(intent, context, known, None, outcome)
            return Sent(None, bool(known))
        if isinstance(error, errors.StripeUnavailable) and failure.replayed:
            self._journal.answer(
                intent, IntentResult(IntentStatus.ABANDONED, failure.status, failure.request_id)
            )
            raise UnknownOutcome(str(failure)) from None
        if _is_refusal(error):
            ended = (IntentStatus.FAILED, failure.status, failure.request_id)
            self._journal.answer(intent, IntentResult(*ended, error=str(failure)[:2000]))
        raise error  # otherwise the outcome is unknown, and the intent stays open

    def _result_of(self, resource: Resource, body: JSON, intent: Intent) -> JSON | None:
        """Return the stream's object in a response; a new line is found by its stamp."""
        if body.get("object") == resource.object_name:
            return body
        if intent.kind not in CREATING_KINDS or resource.parent_field != "invoice":
            return None
        stamp = metadata_in(intent.body).items()
        for entry in self._client.entries(resource, body["id"]):
            if stamp <= (entry.get("metadata") or {}).items():
                return entry
        return None

    def _entries_of(
        self, resource: Resource, intent: Intent, context: Context, result: JSON | None
    ) -> tuple[list[JournalEntry], bool]:
        """Return what to save of a record, and whether its base image is among it."""
        draft = context.draft
        deleted = bool(draft) and intent.method == "DELETE"
        known = JournalEntry(intent.stream, intent.key, result["id"] if result else None)
        has_image = bool(draft and (deleted or (result and is_complete(result))))
        if draft and has_image:
            known = image_of(
                draft,
                resource,
                intent.key,
                None if deleted else result,
                partial(self._ids.item_id, resource.item_stream),
            )
        known = replace(known, pipeline=context.pipeline)
        if result is None or intent.kind not in CREATING_KINDS:
            return ([known] if has_image else []), has_image
        known = replace(known, new_object=True, created=intent.kind == "create")
        return [known, *self._item_entries(resource, result)], has_image

    def _item_entries(self, resource: Resource, result: JSON) -> list[JournalEntry]:
        """Return the entries of the items that were created with a copied subscription."""
        if not resource.item_stream or self._policy.id_mode != IdMode.COPY:
            return []
        keys = RecordKey(IdMode.COPY, ())
        stamped = [(keys.stamp_of(e), e["id"]) for e in result["items"]["data"]]
        return [
            JournalEntry(resource.item_stream, key, item_id, new_object=True)
            for key, item_id in stamped
            if key
        ]


def _is_refusal(error: StripeError) -> bool:
    """Whether Stripe did not, and will not, execute the request."""
    if isinstance(error, errors.ConcurrentRequestError):
        return False
    return isinstance(error, (InvalidRequestError, *_NOT_EXECUTED))
