"""URL paths that contain IDs."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote


def segment(object_id: str) -> str:
    """Return an ID percent-encoded as one path segment.

    Products, plans and coupons may have IDs chosen by users. Raises `ValueError` if the ID cannot
    be a segment even when it is encoded.

    >>> segment("in_1/send"), segment("gold plan?")
    ('in_1%2Fsend', 'gold%20plan%3F')
    """
    if object_id in ("", ".", ".."):
        raise ValueError(f"{object_id!r} is no id")
    return quote(object_id, safe="")


def item_path(list_path: str, object_id: str) -> str:
    """Return the path of an object of a list.

    The dots of `.` and `..` are encoded too, because HTTP clients resolve them.

    >>> item_path("/v1/prices", "50%25 off/month"), item_path("/v1/prices", "..")
    ('/v1/prices/50%2525%20off%2Fmonth', '/v1/prices/%2E%2E')
    """
    return f"{list_path}/{encoded_id(object_id)}"


def encoded_id(object_id: str) -> str:
    """Return an ID percent-encoded for a path or a query.

    >>> encoded_id("50%25 off/month"), encoded_id("..")
    ('50%2525%20off%2Fmonth', '%2E%2E')
    """
    encoded = quote(object_id, safe="")
    return encoded.replace(".", "%2E") if encoded in (".", "..") else encoded


def encoded_in(path: str, object_ids: Iterable[str]) -> str:
    """Return a path from Stripe with the first of these IDs that it contains percent-encoded.

    >>> encoded_in("/v1/customers/a#b/sources", ["ch_1", "a#b"])
    '/v1/customers/a%23b/sources'
    """
    for object_id in object_ids:
        if f"/{object_id}/" in path:
            return path.replace(f"/{object_id}/", item_path("", object_id) + "/")
    return path
