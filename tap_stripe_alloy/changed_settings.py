"""Schedules a second listing of streams when a setting that affects their rows has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from stripe_alloy.api.timestamps import rfc3339
from tap_stripe_alloy.row_settings import Shape, key_changed, name_of, reasons

if TYPE_CHECKING:
    from tap_stripe_alloy.bookmarks import Bookmark
    from tap_stripe_alloy.stream import StripeStream


def follow_settings(stream: StripeStream, bookmarks: Sequence[Bookmark], start: int) -> None:
    """Schedule a second listing of rows made with other settings, and record the current ones."""
    state = stream.stream_state
    shape, known = stream.row_settings, state.get("shapes") or {}
    name, why = name_of(shape), set[str]()
    if name not in known and key_changed(state, shape):
        stream.logger.warning(
            "%s: the primary key is %s from now on. If the table has another primary key, drop it "
            "and run once without a state.",
            stream.name,
            ", ".join(stream.primary_keys),
        )
    for bookmark in bookmarks:
        if bookmark.listed or bookmark.backfill:
            old = _settings_of_rows(stream, bookmark, known, start)
            why.update(_outdated(stream, bookmark, list(reasons(old, shape)), start))
        else:
            bookmark.note_start(start)
        bookmark.note_shape(name)
    used = {name} | {part.get("shape") for part in (state, *(state.get("partitions") or ()))}
    state["shapes"] = {of: found for of, found in known.items() if of in used}
    state["shapes"][name] = shape
    for reason in sorted(why):
        stream.logger.warning("%s is listed again: %s", stream.name, reason)


def _settings_of_rows(
    stream: StripeStream, bookmark: Bookmark, known: Mapping[str, Shape], start: int
) -> Shape:
    """Return the settings that an account's rows were made with.

    If the state does not contain them, the current settings are assumed, with the key `id`.
    """
    noted = known.get(bookmark.shape or "")
    if noted is not None:
        return noted
    if not bookmark.shape:
        bookmark.note_start(start)
    return {name: value for name, value in stream.row_settings.items() if name != "key"}


def _outdated(
    stream: StripeStream, bookmark: Bookmark, why: Sequence[str], start: int
) -> Sequence[str]:
    """Schedule a second listing of an account if its rows are outdated, and return the reasons."""
    before = bookmark.start
    if not why and start >= before:
        return ()
    if why:
        _list_all_again(bookmark, start)
    else:
        _list_earlier(bookmark, start, before, by_created=stream.root.listed.by_created)
    bookmark.note_clocks(listed=False)
    bookmark.note_start(start)
    return why or [f"`start_date` was {rfc3339(before)} and is now earlier"]


def _list_all_again(bookmark: Bookmark, start: int) -> None:
    windows = [(start, NO_UPPER_BOUND, None)]
    if bookmark.listed:
        bookmark.list_again(windows)
    else:
        bookmark.restart(bookmark.anchor, windows)


def _list_earlier(bookmark: Bookmark, start: int, before: int, *, by_created: bool) -> None:
    """Also list objects created from `start` to `before`, by window if Stripe filters by it."""
    if not bookmark.listed:
        rest = bookmark.remaining or ()
        windows = [*rest, (start, before, None)] if by_created else [(start, NO_UPPER_BOUND, None)]
        bookmark.restart(bookmark.anchor, windows)
        return
    left = bookmark.to_list_again
    lists_everything = left and not bookmark.again_before
    limit = 0 if lists_everything else max(before, bookmark.again_before)
    windows = [*left, (start, before, None)] if by_created else [(start, NO_UPPER_BOUND, None)]
    bookmark.list_again(windows, before=limit)
