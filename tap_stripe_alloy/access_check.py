"""Checks which streams an API key can read, and names missing permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError
from stripe_alloy.api.object_types import test_clock_hops

if TYPE_CHECKING:
    from stripe_alloy.api.client import StripeClient
    from stripe_alloy.api.object_type import ObjectType


def check_access(
    stream: ObjectType, transport: StripeClient, account: str | None, *, clocks: bool = False
) -> str:
    """Request one object of a stream; return why the key cannot read it, or "" if it can.

    `clocks`: whether objects on test clocks are read as well. Raises a `StripeError` that is not
    about a single stream, such as a rejected key.
    """
    for hop in test_clock_hops(stream)[:-1] if clocks else ():  # the last is the stream's list
        try:
            transport.get(hop.path, [("limit", "1")], account=account)
        except MissingPermissionError as error:
            error.needs = hop.permission
            return missing_permission_message(stream, error)
    refusal: InvalidRequestError | None = None
    if stream.parent and stream.listed_by_parent:
        return _check_child_lists(stream, stream.parent, transport, account)
    one = [*stream.root.list_params, *([("limit", "1")] if stream.root.is_paged else [])]
    for path in (stream.root.path, *stream.other_paths):
        try:
            transport.get(path, one, account=account)
        except MissingPermissionError as error:
            return missing_permission_message(stream, error)
        except InvalidRequestError as error:
            refusal = error
        else:
            return ""
    return str(refusal)


def _check_child_lists(
    stream: ObjectType, parent: ObjectType, transport: StripeClient, account: str | None
) -> str:
    """Request one child of one parent; return why the key cannot read either."""
    needs = parent.permission
    try:
        found = transport.get(parent.path, [("limit", "1")], account=account).body["data"]
        needs = stream.permission
        for source in found:
            url = urlsplit(stream.child_list.format(quote(source["id"], safe="")))
            params = [*parse_qsl(url.query), ("limit", "1")]
            transport.get(url.path, params, account=account)
    except MissingPermissionError as error:
        error.needs = needs
        return missing_permission_message(stream, error)
    except InvalidRequestError as error:
        return str(error)
    return ""


def missing_permission_message(stream: ObjectType, error: MissingPermissionError) -> str:
    """Return a message with the missing permission, as named by the Dashboard and by Stripe."""
    named = f" ({error.permission})" if error.permission else ""
    return f"the key lacks the permission {error.needs or stream.permission!r}{named}."
