"""Error types, named by who can fix the cause; errors from Stripe carry its request ID."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from typing_extensions import override

_KEY = re.compile(r"\b((?:sk|rk|pk|whsec)_(?:org_)?(?:live_|test_)?)[A-Za-z0-9_*+/=]+")
_USER = re.compile(r"(?<=http)(s?://)\S+@|(?<!http)(?<!https)(://)(?!/).+@")
"""The user of a URL, up to the last @: a password may contain one."""
_PASSWORD = re.compile(
    r"\b((?:ssl)?passw(?:or)?d\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;,]+)", re.IGNORECASE
)
_PERMISSION = re.compile(r"\brak_[a-z0-9_]+")
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that end a line, control a terminal, or change the direction of text."""


def without_secrets(text: str) -> str:
    """Return `text` with keys masked after their prefix, and without the users of URLs."""
    without_keys = _KEY.sub(r"\1***", text)
    without_users = _USER.sub(lambda found: f"{found[1] or found[2]}***@", without_keys)
    return _PASSWORD.sub(r"\1***", without_users)


def one_line(text: str) -> str:
    r"""Return `text` with line breaks and control characters escaped, so it cannot forge log lines.

    >>> one_line("No such customer\nERROR forged")
    'No such customer\\nERROR forged'
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class AlloyError(Exception):
    """Base of all errors that this project raises on purpose; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(without_secrets(message)))


class SettingsError(AlloyError):
    """A setting is invalid."""


class UnreadableStreamsError(AlloyError):
    """Some streams could not be read for lack of a permission; all others were."""

    def __init__(self, lacking: Mapping[str, str]) -> None:
        super().__init__(f"Missing permission for streams: {', '.join(sorted(lacking))}.")
        self.lacking = lacking
        """Stream → the missing permission."""


class UnusedProductsError(AlloyError):
    """Some streams belong to products that the account does not use; all others were read."""

    def __init__(self, streams: Collection[str]) -> None:
        super().__init__(
            f"Not available on this account: {', '.join(sorted(streams))}. Deselect these streams, "
            "or omit `--strict`."
        )


class AccountsRefused(AlloyError):
    """Some accounts could not be read, because they refused the key; all others were."""

    def __init__(self, accounts: Collection[str]) -> None:
        super().__init__(
            f"No access, not read: {', '.join(sorted(accounts))}. Remove them "
            "from `account_ids`, or ask them to grant access again."
        )


@dataclass(frozen=True)
class ErrorDetails:
    """Details of a failed request, without secrets and bodies."""

    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    """Seconds to wait, from `Retry-After`."""
    reason: str | None = None
    """`Stripe-Rate-Limited-Reason` of a 429."""
    replayed: bool = False
    """Whether Stripe replayed the response to an earlier request with this idempotency key."""
    operation: str | None = None
    """Method and path of the request."""

    @property
    def stripes_own(self) -> bool:
        """Whether the error is Stripe's, which always has a type, and not a proxy's."""
        return self.type is not None

    def __str__(self) -> str:
        handles = [h for h in (self.code or self.type, self.param and f"param {self.param}") if h]
        if self.request_id:
            handles.append(f"request {self.request_id}")
        if self.operation:
            handles.append(self.operation)
        text = f"{self.message} [{', '.join(handles)}]" if handles else self.message
        return one_line(without_secrets(text))  # it is logged, too


class StripeError(AlloyError):
    """A request to Stripe failed."""

    advice = ""

    def __init__(self, failure: ErrorDetails, *, retry: bool = False) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.retry = retry
        """Whether a retry may succeed."""
        self.about: str | None = None
        """The stream and the object ID of the request."""

    def __str__(self) -> str:
        about = f"{self.about}: " if self.about else ""
        text = f"{about}{self.failure}"
        stop = "" if text.endswith((".", "]")) else "."
        return without_secrets(f"{text}{stop} {self.advice}".rstrip())

    @property
    def of_one_object(self) -> bool:
        """Whether Stripe refuses only the requested object, whatever else the key may read."""
        return False

    @property
    def missing(self) -> bool:
        """Whether Stripe itself says that the object does not exist."""
        return self.failure.code == "resource_missing" and self.failure.stripes_own


class AuthenticationError(StripeError):
    """401: the key is invalid, revoked or expired."""

    advice = "Check `api_key`: Stripe does not accept it (wrong, revoked or expired)."


class MissingPermissionError(StripeError):
    """403: the key lacks a permission."""

    needs: str | None = None
    """The permission's name in the Dashboard, if it is not that of the stream."""

    advice = "Grant the permission to the restricted key in the Dashboard, or deselect the stream."

    @property
    def permission(self) -> str | None:
        """Stripe's name of the permission, such as `rak_charge_read`, if the message has it."""
        found = _PERMISSION.search(self.failure.message)
        return found.group() if found else None

    @property
    def of_endpoint(self) -> bool:
        """Whether the key may see no object of an endpoint, instead of just not this one.

        Stripe's message about a missing permission has no code.
        """
        return bool(self.permission) or not self.failure.code

    @property
    @override
    def of_one_object(self) -> bool:
        return self.failure.stripes_own and not self.of_endpoint


class AccountAccessError(StripeError):
    """403 `account_invalid`: the key has no access to the account."""

    advice = "Check `account_ids`: the key has no access to this account."


class InvalidRequestError(StripeError):
    """Another 4xx: the request is invalid, or the object's state forbids it."""

    @property
    @override
    def of_one_object(self) -> bool:
        about_request = (self.failure.param or "").startswith("expand")
        return self.failure.stripes_own and not about_request


class NotFoundError(InvalidRequestError):
    """404: the object or the URL does not exist."""


class ConcurrentRequestError(InvalidRequestError):
    """409: another request with this idempotency key, or on this object, is in progress."""

    @property
    @override
    def of_one_object(self) -> bool:
        return False


class RateLimited(StripeError):
    """429 in the last attempt: the account's rate limit is used up by others."""

    advice = (
        "Stripe answered 429 to every attempt: lower `max_requests_per_second`, or run at another "
        "time."
    )


class StripeUnavailable(StripeError):
    """No response, a broken one or a 5xx in the last attempt."""

    advice = "Check `api_url` and the network, or try again later: nothing is lost."
