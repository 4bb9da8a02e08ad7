"""Checks which streams an API key can read, and names missing permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError
from stripe_alloy.api.object_types import OBJECT_TYPES, test_clock_hops
from stripe_alloy.api.paths import encoded_id
from stripe_alloy.api.responses import OnePage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stripe_alloy.api.client import StripeClient
    from stripe_alloy.api.object_type import ObjectType

KEY_FORM = "https://dashboard.stripe.com/apikeys/create"


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
        page = transport.get(parent.path, [("limit", "1")], account=account, expected=OnePage())
        needs = stream.permission
        for source in page.body["data"]:
            url = urlsplit(stream.child_list.format(encoded_id(source["id"])))
            params = [*parse_qsl(url.query), ("limit", "1")]
            transport.get(url.path, params, account=account)
    except MissingPermissionError as error:
        error.needs = needs
        return missing_permission_message(stream, error)
    except InvalidRequestError as error:
        return str(error)
    return ""


def key_link(streams: Iterable[ObjectType], *, clocks: bool = False) -> str:
    """Return the URL of Stripe's form for a restricted key with the permissions of these streams.

    `clocks`: whether objects on test clocks are read as well.
    """
    chosen = list(streams)
    kinds = [kind for stream in chosen for kind in (stream, stream.parent) if kind]
    lists = {path for kind in kinds for path in (kind.path, *kind.other_paths)}
    lists |= {hop.path for kind in chosen for hop in test_clock_hops(kind)} if clocks else set()
    names = {kind.key_permission for kind in OBJECT_TYPES if kind in kinds or kind.path in lists}
    if any(stream.has_events for stream in chosen):
        names.add("event")
    if clocks and any(kind.clock_path for kind in chosen):
        names.add("test_clock")
    permissions = [("permissions[]", f"rak_{name}_read") for name in sorted(names)]
    return f"{KEY_FORM}?{urlencode([('name', 'Stripe Alloy'), *permissions])}"


def missing_permission_message(stream: ObjectType, error: MissingPermissionError) -> str:
    """Return a message with the missing permission, as named by the Dashboard and by Stripe."""
    named = f" ({error.permission})" if error.permission else ""
    return f"the key lacks the permission {error.needs or stream.permission!r}{named}."
