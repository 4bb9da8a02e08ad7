"""Writes one record to Stripe: find and read its object, plan, send the requests, remember."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from stripe_alloy.api.errors import (
    AlloyError,
    ConcurrentRequestError,
    InvalidRequestError,
    MissingPermissionError,
    StripeError,
)
from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import InvalidRecord, Tree, null_metadata, without_nulls
from target_stripe_alloy.plan.base_images import DraftImage, image_of, prices_of
from target_stripe_alloy.plan.copies import why_no_copy
from target_stripe_alloy.plan.effects import known_effects, unreadable_params, without_reserved
from target_stripe_alloy.plan.merge import inline_price, key_items, read_only_values, tree_for
from target_stripe_alloy.plan.permissions import ALLOWED, permissions_of
from target_stripe_alloy.plan.plan_types import (
    REPLACES,
    BaseImage,
    Decision,
    DeletePolicy,
    DesiredState,
    IdMode,
    NullPolicy,
    OnConflict,
    OnMissing,
    Outcome,
    PlannedRequest,
    Policy,
)
from target_stripe_alloy.plan.planned_requests import action_in_image
from target_stripe_alloy.plan.planner import plan
from target_stripe_alloy.plan.record_keys import RecordKey
from target_stripe_alloy.resources import ACTION, BY_STREAM, Resource
from target_stripe_alloy.write.account_client import (
    AccountClient,
    expansions,
    object_tree,
    observed_objects,
)
from target_stripe_alloy.write.id_resolver import (
    PLANNED,
    IdResolver,
    RecordRef,
    References,
    ResolvedObject,
)
from target_stripe_alloy.write.invoice_preview import Previews
from target_stripe_alloy.write.journal import Effect, Journal
from target_stripe_alloy.write.journaled_sender import JournaledSender, Sent, UnknownOutcome
from target_stripe_alloy.write.past_effects import PastActions
from target_stripe_alloy.write.price_replacement import PriceReplacement
from target_stripe_alloy.write.queued_records import (
    QueuedRecord,
    action_of,
    is_deleted,
    occasion_of,
)

_logger = logging.getLogger(__name__)

SUPERSEDED = "a newer record with its key was written since: remove this line"
_NOTHING_TO_APPLY = (Outcome.CONFLICT, Outcome.REJECTED, Outcome.BLOCKED, Outcome.SKIPPED)
_TRIES = 3
"""How often a record is begun again because it is unknown whether a request was executed."""


class ConflictError(AlloyError):
    """`on_conflict` is `fail`, and both sides changed."""


@dataclass(frozen=True)
class Settled:
    """Nothing more is done for the record in this run."""

    decision: Decision
    error: StripeError | None = None


@dataclass(frozen=True)
class Waiting:
    """The record must be written again, once these have objects."""

    references: Sequence[RecordRef]


@dataclass(frozen=True)
class _Attempt:
    """A record with its object."""

    queued: QueuedRecord
    wanted: DesiredState
    object_id: str | None
    """The object's id, even if the object is deleted."""
    current: JSON | None
    """The object as Stripe has it now."""
    deferred: Sequence[RecordRef]
    """References that are set once their objects are known; the rest is written before."""


@dataclass(frozen=True)
class _Plan:
    """What is to be done for a record."""

    wanted: DesiredState
    """As in the attempt, but with its items by the ids they have in Stripe."""
    decision: Decision


class RecordWriter:
    """Writes the records of a run. Thread-safe."""

    def __init__(self, client: AccountClient, journal: Journal, policy: Policy) -> None:
        self._client = client
        self._journal = journal
        self._policy = policy
        self._dry_run = policy.dry_run
        self._previews = Previews(client) if policy.preview else None
        self.ids = IdResolver(client, journal, policy)
        self._sender = JournaledSender(client, journal, self.ids, policy)
        self._replacement = PriceReplacement(client, self._sender)
        self._past_actions = PastActions(client)
        self._left_out: set[tuple[str, str]] = set()

    def recover(self) -> None:
        """Resolve the requests of earlier runs whose responses were never journaled."""
        if not self._dry_run:
            self._sender.recover()

    def write(self, queued: QueuedRecord) -> Settled | Waiting:
        """Write a record as far as its references are known.

        Raises `ConflictError`, `MissingPermissionError` and what else stops the run, among it
        `ConcurrentRequestError`: another run writes to the object, and the outcome is unknown.
        """
        try:
            return self._until_outcome_is_known(queued)
        except ConcurrentRequestError:
            raise
        except InvalidRecord as error:
            return _rejected(str(error))
        except MissingPermissionError as error:
            needed = f"Writing {queued.stream} needs {queued.resource.permission!r}. "
            message = needed + error.failure.message
            raise MissingPermissionError(replace(error.failure, message=message)) from None
        except InvalidRequestError as error:
            return Settled(Decision(Outcome.REJECTED, reason=str(error.failure)), error)

    def _until_outcome_is_known(self, queued: QueuedRecord) -> Settled | Waiting:
        for _ in range(_TRIES):
            try:
                return self._write(queued)
            except UnknownOutcome as error:
                self.ids.invalidate(queued.stream)
                self._past_actions.invalidate()
                reason = f"Stripe failed {_TRIES} times to write it: {error}"
        return _rejected(reason)

    def _write(self, queued: QueuedRecord) -> Settled | Waiting:
        """Read, plan, apply; once more for the action of a record that created its object."""
        attempt = self._read(queued)
        while isinstance(attempt, _Attempt):
            planned = self._plan(attempt)
            if self._dry_run or planned.decision.outcome in _NOTHING_TO_APPLY:
                return self._settle_unwritten(queued, planned.decision)
            decision, result = self._apply(attempt, planned)
            if decision.outcome != Outcome.CREATED or not attempt.wanted.action:
                return _settle_or_wait(attempt, decision)
            queued.outcome = Outcome.CREATED
            created_id = str((result or {}).get("id"))
            attempt = replace(attempt, object_id=created_id, current=result)
        return attempt

    # ------------------------------------------------------------------ read

    def _read(self, queued: QueuedRecord) -> _Attempt | Settled | Waiting:
        """Resolve a record's references, find its object, and read it."""
        resource = queued.resource
        fields, tree, ignored = self._fields_and_tree(queued)
        references = self.ids.resolve(resource, tree)
        deleted = is_deleted(queued.record)
        if not deleted and (unresolved := self._unresolved(queued, fields, references)):
            return unresolved
        stamp = self._stamp(queued)
        if isinstance(tree.get("metadata"), dict):  # a record cannot make its object another's
            tree["metadata"] |= {name: stamp[name] for name in stamp if name in tree["metadata"]}
        in_planned = str(tree.get(resource.parent_field)).startswith(PLANNED)  # which is empty yet
        found = ResolvedObject() if in_planned else self.ids.find(queued, tree, fields)
        queued.matched = found.matched
        by_match = queued.keys.by_match(queued.record)
        wanted = DesiredState(
            resource,
            fields,
            tree,
            deleted=deleted,
            metadata_complete=queued.incoming.metadata_complete,
            stamp=stamp,
            ignored=ignored,
            object_id=queued.key if self._policy.id_mode == IdMode.COPY else None,
            action=action_of(queued.record),
            occasion=occasion_of(queued.record),
            digest=queued.digest,
            occurrence=queued.occurrence,
            named_pipeline=bool(self._journal.pipeline),
            left_out=tuple(references.left_out),
            parent=self._parent(resource, tree),
            creatable=by_match and self._policy.on_missing == OnMissing.CREATE,
        )
        self._log_left_out(queued.stream, references.left_out)
        deferred = [] if deleted else references.deferred
        return _Attempt(queued, wanted, found.object_id, found.current, deferred)

    def _fields_and_tree(
        self, queued: QueuedRecord
    ) -> tuple[dict[str, Any], dict[str, Tree], frozenset[str]]:
        """Return a record's fields, their tree, and the metadata keys whose null is ignored."""
        resource, fields = queued.resource, queued.fields_to_write()
        tree = without_reserved(tree_for(resource, fields, self._client.now()))
        ignored: frozenset[str] = frozenset()
        if self._policy.null_policy == NullPolicy.IGNORE:
            ignored = frozenset(null_metadata(fields))
            fields, tree = without_nulls(fields), without_nulls(tree)
        if self._policy.id_mode == IdMode.COPY:
            tree = {name: it for name, it in tree.items() if name not in resource.own_to_account}
        return fields, tree, ignored

    def _unresolved(
        self, queued: QueuedRecord, fields: dict[str, Any], references: References
    ) -> Settled | Waiting | None:
        """Return what becomes of a record that has references without an object, if it has any."""
        if references.refused:
            return _rejected(references.ambiguous[references.refused[0]])
        if not references.missing:
            return None
        if self._policy.id_mode == IdMode.COPY:
            why = why_no_copy(queued.resource, fields, references.left_out)
            if why and self.ids.find_id(queued.stream, queued.key) is None:
                return Settled(Decision(Outcome.BLOCKED, reason=why))
        return Waiting(references.missing)

    def give_up(self, queued: QueuedRecord, failed: Collection[RecordRef]) -> Decision:
        """Decide on a record whose references were never resolved; `failed` were not written."""
        _, tree, _ = self._fields_and_tree(queued)
        references = self.ids.resolve(queued.resource, tree)
        missing = list(dict.fromkeys([*references.missing, *references.deferred]))
        names = ", ".join(f"{stream} {key}" for stream, key in missing)
        blocked = all(each in failed for each in missing) and not queued.outcome
        why = "was not written" if blocked else "is unknown and was not in the input"
        rest = "; the rest of it is written" if queued.outcome else ""
        several = next(iter(references.ambiguous.values()), "")
        reason = several or f"it refers to {names}, which {why}{rest}"
        return Decision(Outcome.BLOCKED if blocked else Outcome.REJECTED, reason=reason)

    def _parent(self, resource: Resource, tree: Mapping[str, Tree]) -> JSON | None:
        """Read the invoice of a line, where it decides whether a permission is needed."""
        name = tree.get(resource.parent_field) if resource.parent_field == "invoice" else None
        if not name or permissions_of(resource) <= self._policy.allowed:
            return None
        if str(name).startswith(PLANNED):
            advances = "invoices.auto_advance" in self._policy.allowed
            return {"status": "draft", "auto_advance": advances}
        return self._client.get(BY_STREAM["invoices"].path_of(str(name), {}))

    def _stamp(self, queued: QueuedRecord) -> dict[str, str]:
        mode, found_by = self._policy.id_mode, queued.resource.found_by
        if mode == IdMode.SAME_ACCOUNT or (mode == IdMode.COPY and found_by == "id"):
            return {}
        return queued.keys.stamp(queued.record)

    def _log_left_out(self, stream: str, paths: Iterable[str]) -> None:
        for path in paths:
            if (stream, path) not in self._left_out:
                self._left_out.add((stream, path))
                _logger.warning("%s: %s is left out: what it refers to is not copied", stream, path)

    # ------------------------------------------------------------------ plan

    def _plan(self, attempt: _Attempt) -> _Plan:
        """Compare a record with its object and its base image, and decide what to write."""
        queued, wanted, current = attempt.queued, attempt.wanted, attempt.current
        base = self._base_image(attempt)
        if current is None and not wanted.deleted:
            was_deleted = bool(attempt.object_id and base)
            without_object = self._without_object(queued, was_deleted=was_deleted)
            if without_object is not None:
                return _Plan(wanted, without_object)
            base = None
        wanted = replace(wanted, done=self._past_effects_of(wanted, current))
        theirs = object_tree(wanted, current)
        wanted = self._with_keyed_items(wanted, theirs, current)
        decide = partial(plan, current=current, theirs=theirs, base=base)
        decision = decide(wanted, policy=self._policy)
        if self._previews:
            everything = replace(self._policy, allowed=frozenset(ALLOWED))
            allowed = partial(decide, wanted, policy=everything)
            decision = self._previews.of(queued.stream, queued.key, decision, current, allowed)
        if decision.replaces:
            decision = self._unless_replaced(attempt, wanted, decision, decide)
        return _Plan(wanted, self._unless_superseded(attempt, decision))

    def _base_image(self, attempt: _Attempt) -> BaseImage | None:
        """Return a record's base image, if it is of the object that was found.

        A key may have moved to another object.
        """
        queued = attempt.queued
        known = self._journal.load_one(queued.stream, queued.key, queued.incoming.source)
        if known is None:
            return None
        same = self._is_by_id(queued) or attempt.object_id in (None, known.object_id)
        return known.image() if same else None

    def _is_by_id(self, queued: QueuedRecord) -> bool:
        """Whether a record's key is the id of its object."""
        by_match = queued.keys.by_match(queued.record)
        return self._policy.id_mode == IdMode.SAME_ACCOUNT and not by_match

    def _without_object(self, queued: QueuedRecord, *, was_deleted: bool) -> Decision | None:
        """Decide on a record without an object; None if `plan` is to decide: it may be created.

        `was_deleted` if its object was deleted in Stripe.
        """
        same_account = self._policy.id_mode == IdMode.SAME_ACCOUNT
        if was_deleted and not same_account and self._policy.on_conflict != OnConflict.OVERWRITE:
            return Decision(Outcome.CONFLICT, reason="it was deleted in Stripe")
        match, chosen = queued.keys.match, self._policy.on_missing
        if not chosen and same_account and match:
            chosen = OnMissing.REJECT
        if chosen in (None, OnMissing.CREATE):
            return None
        missing = f"no object has its {' and '.join(match)}" if match else "there is no such object"
        outcome = Outcome.SKIPPED if chosen == OnMissing.SKIP else Outcome.REJECTED
        return Decision(outcome, reason=f"{missing}, and `on_missing` is `{chosen}`")

    def _past_effects_of(self, wanted: DesiredState, current: JSON | None) -> frozenset[str]:
        """Return the effects on an object that are not to be repeated: see `effects`."""
        resource = wanted.resource
        asks = wanted.action or unreadable_params(resource) & wanted.tree.keys()
        if current is None or not asks:
            return frozenset()
        journaled = self._journal.effects_of(resource.stream, current["id"])
        done = journaled | known_effects(resource, current)
        if wanted.action and wanted.action in resource.actions:
            done |= self._past_actions.of(resource.actions[wanted.action], wanted, current, done)
        return done

    def _with_keyed_items(
        self, wanted: DesiredState, theirs: Mapping[str, Tree], current: JSON | None
    ) -> DesiredState:
        stream = wanted.resource.item_stream
        wanted = replace(wanted, tree=inline_price(wanted.resource, dict(wanted.tree), current))
        if not stream or not isinstance(wanted.tree.get("items"), list):
            return wanted
        items = theirs.get("items") or {}

        def item_id(key: str) -> str | None:
            found = self.ids.item_id(stream, key)
            by_id = self._policy.id_mode == IdMode.SAME_ACCOUNT
            return found if by_id or found in items else None

        return replace(wanted, tree=key_items(wanted.tree, items, item_id, prices_of(current)))

    def _unless_replaced(
        self,
        attempt: _Attempt,
        wanted: DesiredState,
        decision: Decision,
        decide: Callable[..., Decision],
    ) -> Decision:
        """Return the decision on a price that is to be replaced, unless an earlier run did that.

        Then the old price ends, and what can be changed is written to the one the record names.
        """
        old_id = str(decision.replaces)
        new = self._replacement.find_new(old_id, attempt.current)
        if new is None:
            return decision
        names = {change.field.partition(".")[0] for change in decision.changes}
        frozen = names & wanted.resource.immutable
        if not self._replacement.has_all(wanted.resource, new, frozen, decision.requests[0]):
            return Decision(Outcome.BLOCKED, reason=f"{new['id']} replaced it: write to that one")
        if not self._dry_run:
            self._end_replaced(attempt.queued, old_id, new)
        rest = {name: tree for name, tree in wanted.tree.items() if name not in frozen}
        fields = {name: value for name, value in wanted.fields.items() if name not in frozen}
        return decide(replace(wanted, tree=rest, fields=fields), policy=self._policy)

    def _unless_superseded(self, attempt: _Attempt, decision: Decision) -> Decision:
        """Return the decision, unless a newer record than the replayed one was written."""
        queued = attempt.queued
        writes = decision.requests or decision.outcome == Outcome.CONFLICT
        if queued.position is None or not writes:
            return decision
        ids = {attempt.object_id, (attempt.current or {}).get("id")} - {None}
        newest = self._journal.position_of(queued.stream, queued.key, map(str, ids))
        if newest is None or newest <= queued.position:
            return decision
        return Decision(Outcome.REJECTED, reason=SUPERSEDED)

    def _settle_unwritten(self, queued: QueuedRecord, decision: Decision) -> Settled:
        """Settle a record without writing it; raises `ConflictError` where that stops the run."""
        fails = self._policy.on_conflict == OnConflict.FAIL and not self._dry_run
        if decision.outcome == Outcome.CONFLICT and fails:
            raise ConflictError(
                f"{queued.stream} {queued.label}: {decision.reason}. Nothing was written to it; "
                "`on_conflict` says what to do about it."
            )
        if decision.outcome == Outcome.CREATED:
            planned_id = f"{PLANNED}{queued.stream}:{queued.key}"
            self.ids.remember(queued.stream, queued.key, planned_id)
        return Settled(decision)

    # ------------------------------------------------------------------ apply

    def _apply(self, attempt: _Attempt, planned: _Plan) -> tuple[Decision, JSON | None]:
        """Send the requests; return the decision that was carried out, and the object as it is."""
        queued, wanted, decision = attempt.queued, planned.wanted, planned.decision
        draft = self._draft(attempt, planned)
        try:
            sent = self._send_all(attempt, planned, draft)
        except ConcurrentRequestError:
            raise
        except InvalidRequestError:
            if decision.outcome != Outcome.DELETED or not wanted.resource.archive:
                raise
            # What cannot be deleted, such as a product with prices, is archived.
            archive = replace(self._policy, delete_policy=DeletePolicy.ARCHIVE)
            decision = plan(wanted, attempt.current, {}, None, archive)
            sent = self._send_all(attempt, replace(planned, decision=decision), draft)
        if not sent.image_saved:
            self._save_image(queued, wanted, sent.result, draft)
        if sent.result is not None:
            self.ids.observe(queued.stream, sent.result)
            if self._policy.id_mode != IdMode.SAME_ACCOUNT or sent.result["id"] != queued.key:
                self.ids.remember(queued.stream, queued.key, str(sent.result["id"]))
        if decision.outcome == Outcome.DELETED:
            self.ids.note_deletion(queued)
        return decision, sent.result

    def _send_all(self, attempt: _Attempt, planned: _Plan, draft: DraftImage) -> Sent:
        queued, current = attempt.queued, attempt.current
        wanted, decision = planned.wanted, planned.decision
        replaceable = wanted.resource.replaced_on_change
        sent = Sent(current, image_saved=False)
        for number, planned_request in enumerate(decision.requests):
            request = planned_request
            if request.kind == "create":
                request = self._with_stamped_items(queued, request)
            if request.kind == "archive" and replaceable and current:
                self._replacement.release_default(queued.key, current, request)
            queued.sent = True
            answer = self._sender.send(
                queued.stream,
                queued.key,
                request,
                object_id=current["id"] if current else None,
                draft=_after_first(draft, wanted, decision.requests[number:]),
                expand=_expand(wanted, request),
                seen=observed_objects(wanted.resource, sent.result, wanted.fields, wanted.parent),
            )
            sent = Sent(answer.result or sent.result, answer.image_saved)
        result, old_id = sent.result, decision.replaces
        # Any client can write metadata that names a replaced price: ending it needs a permission.
        may_replace = f"{queued.stream}.replace" in self._policy.allowed
        if replaceable and result and not wanted.deleted and may_replace:
            old_id = old_id or (result.get("metadata") or {}).get(REPLACES)
            if old_id and old_id != result["id"]:
                self._end_replaced(queued, str(old_id), result)
        return sent

    def _end_replaced(self, queued: QueuedRecord, old_id: str, new: JSON) -> None:
        """End a replaced price, once: whoever makes it active again later wants it so."""
        effect = Effect(queued.stream, new["id"], f"ended:{old_id}", lasting=True)
        if effect.name not in self._journal.effects_of(queued.stream, new["id"]):
            self._replacement.end(queued.key, old_id, new)
            self._journal.note_effects([effect])

    def _with_stamped_items(self, queued: QueuedRecord, request: PlannedRequest) -> PlannedRequest:
        items, source = request.params.get("items"), queued.record.get("items")
        entries = source.get("data") if isinstance(source, dict) else source
        if self._policy.id_mode != IdMode.COPY or not items or not entries:
            return request
        keys = RecordKey(IdMode.COPY, ())
        stamped = [
            {**item, "metadata": {**item.get("metadata", {}), **keys.stamp(entry)}}
            if entry.get("id")
            else item
            for item, entry in zip(items, entries, strict=True)
        ]
        return replace(request, params={**request.params, "items": stamped})

    # ------------------------------------------------------------------ base images

    def _draft(self, attempt: _Attempt, planned: _Plan) -> DraftImage:
        """Return the image of a record once it is written; without a digest if more follows."""
        queued, wanted, items = attempt.queued, planned.wanted, attempt.wanted.tree.get("items")
        action_follows = bool(wanted.action) and planned.decision.outcome == Outcome.CREATED
        complete = not attempt.deferred and not action_follows
        ours: dict[str, Tree] | None = None if wanted.deleted else dict(wanted.tree)
        if ours is not None and isinstance(items, list):
            ours["items"] = items
        if ours is not None and wanted.action and complete:
            ours[ACTION] = action_in_image(wanted)
        values = () if self._policy.id_mode == IdMode.COPY else read_only_values(wanted)
        return DraftImage(
            source=queued.incoming.source,
            number=queued.number,
            position=queued.position_in(self._journal.run),
            names=sorted({*wanted.fields, *wanted.tree}),
            ours=ours,
            fixed={".".join(path): value for path, value in values},
            digest=queued.digest if complete else None,
        )

    def _save_image(
        self, queued: QueuedRecord, wanted: DesiredState, result: JSON | None, draft: DraftImage
    ) -> None:
        """Save the base image of a record if the responses to its requests were incomplete."""
        by_id = self._is_by_id(queued)
        if result is not None and not wanted.deleted:
            result = self._client.complete(wanted.resource, result)
            if by_id and result["id"] != queued.key:
                result = None  # another one took its place, with the values that the record has
        image = image_of(
            draft,
            wanted.resource,
            queued.key,
            None if wanted.deleted else result,
            partial(self.ids.item_id, wanted.resource.item_stream),
        )
        if wanted.deleted and result:
            image = replace(image, object_id=result["id"])
        elif result is None and by_id:
            image = replace(image, object_id=queued.key)
        self._journal.save([image])


def _rejected(reason: str) -> Settled:
    return Settled(Decision(Outcome.REJECTED, reason=reason))


def _settle_or_wait(attempt: _Attempt, decision: Decision) -> Settled | Waiting:
    """Settle a record that is written, unless references are still to be set."""
    queued = attempt.queued
    if attempt.deferred:
        queued.outcome = queued.outcome or decision.outcome
        return Waiting(attempt.deferred)
    if queued.outcome and decision.outcome != Outcome.DELETED:
        decision = replace(decision, outcome=queued.outcome)
    return Settled(decision)


def _expand(wanted: DesiredState, request: PlannedRequest) -> list[tuple[str, str]]:
    """Return what to expand in a response, so that it shows what reading the object shows."""
    of_another = request.path.endswith("/add_lines") or request.kind.startswith("add ")
    if request.method != "POST" or of_another:
        return []
    return expansions(wanted.resource, wanted.fields)


def _after_first(
    draft: DraftImage, wanted: DesiredState, requests: Sequence[PlannedRequest]
) -> DraftImage | None:
    """Return the image once the first request is done; None if it lacks a part of the record.

    The image of a price that another one replaces follows when the old price has ended.
    """
    first, *rest = requests
    if first.kind == "replace":
        return None
    if not rest:
        return draft
    if first.kind != "update" or draft.ours is None:
        return None
    pending = {wanted.resource.attach_field, ACTION}
    ours = {name: tree for name, tree in draft.ours.items() if name not in pending}
    return msgspec.structs.replace(draft, ours=ours, digest=None)
