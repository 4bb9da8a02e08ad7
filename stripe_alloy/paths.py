"""Paths of Stripe's API with ids in them, whatever characters an id has."""

from __future__ import annotations

from urllib.parse import quote


def segment(object_id: str) -> str:
    """Return an id as one segment of a path: it can name no other path.

    Products, plans and coupons may have ids of the user's own. Raises `ValueError` for what is no
    segment even when it is encoded.

    >>> segment("in_1/send"), segment("gold plan?")
    ('in_1%2Fsend', 'gold%20plan%3F')
    """
    if object_id in ("", ".", ".."):
        raise ValueError(f"{object_id!r} is no id")
    return quote(object_id, safe="")
