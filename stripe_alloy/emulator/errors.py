"""Stripe's error answers, one function a kind."""

from __future__ import annotations

from typing import Any

from stripe_alloy.api.json_types import JSON

DOCS = "https://stripe.com/docs/error-codes/"


class ApiError(Exception):
    """An answer of 4xx or 5xx, as Stripe words it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.keep = False  # what was done before the refusal stays done
        self.headers = headers or {}
        self.error: JSON = {"message": message, "type": kind, **details}
        if code:
            self.error = {"code": code, "doc_url": DOCS + code.replace("_", "-"), **self.error}
        if param:
            self.error["param"] = param

    def body(self, request_id: str) -> JSON:
        """The whole body; Stripe points to its own log of the request."""
        log = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": {**self.error, "request_log_url": log}}


def missing(label: str, object_id: str, param: str = "id") -> ApiError:
    """No object has that id; as a parameter of another request it is a 400, in the path a 404."""
    status = 404 if param == "id" else 400
    return ApiError(status, f"No such {label}: '{object_id}'", code="resource_missing", param=param)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A parameter that cannot be taken as it is."""
    return ApiError(400, message, code=code, param=param)


def unknown_parameter(names: list[str]) -> ApiError:
    """Parameters this endpoint does not have."""
    listed = ", ".join(names)
    plural = "s" if len(names) > 1 else ""
    return invalid(f"Received unknown parameter{plural}: {listed}", names[0], "parameter_unknown")


def required(name: str) -> ApiError:
    """A parameter this endpoint cannot do without."""
    return invalid(f"Missing required param: {name}.", name, "parameter_missing")


def unrecognized_url(method: str, path: str) -> ApiError:
    """No such endpoint."""
    hint = "Please see https://stripe.com/docs or we can help at https://support.stripe.com/."
    return ApiError(404, f"Unrecognized request URL ({method}: {path}). {hint}")


def masked(key: str) -> str:
    """A key as Stripe shows it: its kind and its last four characters."""
    if len(key) < 16:
        return "*" * len(key)
    kind = "_".join(key.split("_")[:2]) + "_" if key.count("_") >= 2 else ""
    return f"{kind}{'*' * (len(key) - len(kind) - 4)}{key[-4:]}"


def bad_key(key: str) -> ApiError:
    """The key is unknown, or was revoked."""
    return ApiError(401, f"Invalid API Key provided: {masked(key)}")


def no_key() -> ApiError:
    """The request carries no key."""
    return ApiError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization "
        "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
    )


def forbidden(key: str, account: str, permission: str) -> ApiError:
    """A restricted key that lacks a permission."""
    return ApiError(
        403,
        f"The provided key '{masked(key)}' does not have the required permissions for this "
        f"endpoint on account '{account}'. Having the '{permission}' permission would allow this "
        "request to continue.",
    )


def no_account(key: str, account: str) -> ApiError:
    """Stripe-Account names an account the key has no access to."""
    return ApiError(
        403,
        f"The provided key '{masked(key)}' does not have access to account '{account}' (or that "
        "account does not exist). Application access may have been revoked.",
        code="account_invalid",
    )


def rate_limited(reason: str) -> ApiError:
    """Too many requests; the header says which limit."""
    return ApiError(
        429,
        "Request rate limit exceeded. You can learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": reason, "Stripe-Should-Retry": "true"},
    )
