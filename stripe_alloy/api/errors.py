"""Errors, named by who must act; every one from Stripe carries Stripe's own handles."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from typing_extensions import override

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


class UnreadableStreamsError(AlloyError):
    """All else was read, but for some streams the key lacks a permission."""

    def __init__(self, lacking: Mapping[str, str]) -> None:
        super().__init__(f"Not read for want of permission: {', '.join(sorted(lacking))}.")
        self.lacking = lacking
        """Stream → what the key lacks."""


class AccountsRefused(AlloyError):
    """All else was read, but some accounts did not let the key in."""

    def __init__(self, accounts: Collection[str]) -> None:
        super().__init__(
            f"Not read, as the key has no access: {', '.join(sorted(accounts))}. Take them out of "
            "`account_ids`, or have them grant access again."
        )


@dataclass(frozen=True)
class ErrorDetails:
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
    asked: str | None = None
    """Method and path of the request."""

    @property
    def stripes_own(self) -> bool:
        """Whether it is an error of Stripe's, which always has a type, and not a proxy's."""
        return self.type is not None

    def __str__(self) -> str:
        handles = [h for h in (self.code or self.type, self.param and f"param {self.param}") if h]
        if self.request_id:
            handles.append(f"request {self.request_id}")
        if self.asked:
            handles.append(self.asked)
        text = f"{self.message} [{', '.join(handles)}]" if handles else self.message
        return one_line(without_secrets(text))  # it is logged, too


class StripeError(AlloyError):
    """Stripe, or the way to it, refused a request."""

    advice = ""

    def __init__(self, failure: ErrorDetails, *, retry: bool = False) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.retry = retry
        """Whether sending the same request again may help."""
        self.about: str | None = None
        """The stream, and the id of the object, that the request was for."""

    def __str__(self) -> str:
        about = f"{self.about}: " if self.about else ""
        text = f"{about}{self.failure}"
        stop = "" if text.endswith((".", "]")) else "."
        return without_secrets(f"{text}{stop} {self.advice}".rstrip())

    @property
    def of_one_object(self) -> bool:
        """Whether Stripe refuses the object that was asked for, whatever else the key may read."""
        return False

    @property
    def missing(self) -> bool:
        """Whether it is Stripe's own word that something does not exist."""
        return self.failure.code == "resource_missing" and self.failure.stripes_own


class AuthenticationError(StripeError):
    """401: the key is wrong, revoked or expired."""

    advice = "Check `api_key`: Stripe does not accept it (wrong, revoked or expired)."


class MissingPermissionError(StripeError):
    """403: the key may not do this."""

    needs: str | None = None
    """The permission as the Dashboard names it, where it is not that of the stream itself."""

    advice = "Grant the permission to the restricted key in the Dashboard, or leave the stream out."

    @property
    def permission(self) -> str | None:
        """The permission as Stripe names it, such as `rak_charge_read`, if its message does."""
        found = _PERMISSION.search(self.failure.message)
        return found.group() if found else None

    @property
    def of_endpoint(self) -> bool:
        """Whether it is all objects of an endpoint that the key may not see, not only one.

        Stripe's word on a missing permission has no code.
        """
        return bool(self.permission) or not self.failure.code

    @property
    @override
    def of_one_object(self) -> bool:
        return self.failure.stripes_own and not self.of_endpoint


class AccountAccessError(StripeError):
    """403 `account_invalid`: the key has no access to the account that was named."""

    advice = "Check `account_ids`: the key has no access to this account."


class InvalidRequestError(StripeError):
    """Another 4xx: the request is wrong, or its object's state forbids it."""

    @property
    @override
    def of_one_object(self) -> bool:
        about_request = (self.failure.param or "").startswith("expand")
        return self.failure.stripes_own and not about_request


class NotFoundError(InvalidRequestError):
    """404: no such object, or no such URL."""


class ConcurrentRequestError(InvalidRequestError):
    """409: another request with this idempotency key or on this object is under way."""

    @property
    @override
    def of_one_object(self) -> bool:
        return False


class RateLimited(StripeError):
    """429 to the last try: others use up the account's allowance."""

    advice = (
        "Stripe kept answering 429; lower `max_requests_per_second` or run when less is going on."
    )


class StripeUnavailable(StripeError):
    """No answer, a broken one or a 5xx, to the last try."""

    advice = "Is `api_url` right and the network up? Else try again later: nothing is lost."
