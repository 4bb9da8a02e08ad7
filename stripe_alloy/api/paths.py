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


def item_path(list_path: str, object_id: str) -> str:
    """Return the path at which an object of a list is read, whatever its id.

    The dots of an id that is only dots are encoded too: HTTP clients take them for "here" and "up".

    >>> item_path("/v1/prices", "50%25 off/month"), item_path("/v1/prices", "..")
    ('/v1/prices/50%2525%20off%2Fmonth', '/v1/prices/%2E%2E')
    """
    encoded = quote(object_id, safe="")
    return f"{list_path}/{encoded.replace('.', '%2E') if encoded in ('.', '..') else encoded}"


def encoded_in(path: str, object_id: str) -> str:
    """Return a path that Stripe gave with this id percent-encoded, if it is in it as it is.

    >>> encoded_in("/v1/customers/a#b/sources", "a#b")
    '/v1/customers/a%23b/sources'
    """
    return path.replace(f"/{object_id}/", item_path("", object_id) + "/")
