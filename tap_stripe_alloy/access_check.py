"""What a key may read, and how to say what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError
from stripe_alloy.api.object_types import test_clock_hops

if TYPE_CHECKING:
    from stripe_alloy.api.client import StripeClient
    from stripe_alloy.api.object_types import ObjectType


def check_access(
    stream: ObjectType, transport: StripeClient, account: str | None, *, clocks: bool = False
) -> str:
    """What keeps the key from reading a stream, asked of Stripe; empty if nothing does.

    `clocks`: whether it is also to read what is on test clocks. Raises a `StripeError` on what
    concerns no single stream, such as a key that is refused.
    """
    for way in test_clock_hops(stream)[:-1] if clocks else ():  # the last is the stream's own list
        try:
            transport.get(way.path, [("limit", "1")], account=account)
        except MissingPermissionError as error:
            error.needs = way.permission
            return missing_permission_message(stream, error)
    refusal: InvalidRequestError | None = None
    for path in (stream.root.path, *stream.other_paths):
        try:
            transport.get(path, [("limit", "1")], account=account)
        except MissingPermissionError as error:
            return missing_permission_message(stream, error)
        except InvalidRequestError as error:
            refusal = error
        else:
            return ""
    return str(refusal)


def missing_permission_message(stream: ObjectType, error: MissingPermissionError) -> str:
    """The permission that is missing, as the Dashboard and as Stripe's answer name it."""
    named = f" ({error.permission})" if error.permission else ""
    return f"the key lacks the permission {error.needs or stream.permission!r}{named}."
