"""Errors, named by who must act; every one from Stripe carries Stripe's own handles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_KEY = re.compile(r"\b((?:sk|rk|pk|whsec)_(?:org_)?(?:live_|test_)?)[A-Za-z0-9_*+/=]+")
_USER = re.compile(r"(?<=http)(s?://)\S+@|(?<!http)(?<!https)(://)(?!/).+@")
"""Up to the last @: a password may hold one, and that of a database anything."""
_PASSWORD = re.compile(
    r"\b((?:ssl)?passw(?:or)?d\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;,]+)", re.IGNORECASE
)
_PERMISSION = re.compile(r"\brak_[a-z0-9_]+")
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that end a line, steer a terminal, or change the order in which text is shown."""


def without_secrets(text: str) -> str:
    """`text` with whatever looks like a key masked after its prefix, and without URLs' users."""
    without_keys = _KEY.sub(r"\1***", text)
    without_users = _USER.sub(lambda found: f"{found[1] or found[2]}***@", without_keys)
    return _PASSWORD.sub(r"\1***", without_users)


def one_line(text: str) -> str:
    r"""`text` with line breaks and control characters escaped: it can forge no line of a log.

    >>> one_line("No such customer\nERROR forged")
    'No such customer\\nERROR forged'
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class AlloyError(Exception):
    """Base of all errors this project raises on purpose: the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(without_secrets(message)))


class SettingsError(AlloyError):
    """A setting is wrong: whoever configured the pipeline must mend it."""


class StreamsRefused(AlloyError):
    """All else was read, but for some streams the key lacks a permission."""

    def __init__(self, lacking: Mapping[str, str]) -> None:
        super().__init__(f"Not read for want of permission: {', '.join(sorted(lacking))}.")
        self.lacking = lacking
        """Stream → what the key lacks."""


@dataclass(frozen=True)
class Failure:
    """What is known of a request that failed: Stripe's handles, never a key or a whole body."""

    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    """Seconds that Stripe asks to wait."""
    reason: str | None = None
    """`Stripe-Rate-Limited-Reason` of a 429."""
    replayed: bool = False
    """Whether it is the stored answer to an earlier request with the same idempotency key."""

    def __str__(self) -> str:
        handles = [h for h in (self.code or self.type, self.param and f"param {self.param}") if h]
        if self.request_id:
            handles.append(f"request {self.request_id}")
        text = f"{self.message} [{', '.join(handles)}]" if handles else self.message
        return one_line(without_secrets(text))  # it is logged, too


class StripeError(AlloyError):
    """Stripe, or the way to it, refused a request."""

    advice = ""

    def __init__(self, failure: Failure, *, retry: bool = False) -> None:
        text = str(failure)
        stop = "" if text.endswith((".", "]")) else "."
        super().__init__(f"{text}{stop} {self.advice}".rstrip())
        self.failure = failure
        self.retry = retry
        """Whether sending the same request again may help."""


class KeyRejected(StripeError):
    """401: the key is wrong, revoked or expired."""

    advice = "Check `api_key`: Stripe does not accept it (wrong, revoked or expired)."


class PermissionMissing(StripeError):
    """403: the key may not do this."""

    needs: str | None = None
    """The permission as the Dashboard names it, where it is not that of the stream itself."""

    advice = "Grant the permission to the restricted key in the Dashboard, or leave the stream out."

    @property
    def permission(self) -> str | None:
        """The permission as Stripe names it, such as `rak_charge_read`, if its message does."""
        found = _PERMISSION.search(self.failure.message)
        return found.group() if found else None


class AccountRejected(StripeError):
    """403 `account_invalid`: the key has no access to the account that was named."""

    advice = "Check `account_ids`: the key has no access to this account."


class RequestRefused(StripeError):
    """Another 4xx: the request is wrong, or its object's state forbids it."""


class NotFound(RequestRefused):
    """404: no such object, or no such URL."""


class Conflict(RequestRefused):
    """409: another request with this idempotency key or on this object is under way."""


class RateLimited(StripeError):
    """429 to the last try: others use up the account's allowance."""

    advice = (
        "Stripe kept answering 429; lower `max_requests_per_second` or run when less is going on."
    )


class StripeUnavailable(StripeError):
    """No answer, a broken one or a 5xx, to the last try."""

    advice = "Is `api_url` right and the network up? Else try again later: nothing is lost."
