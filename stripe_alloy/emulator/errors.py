"""Stripe's error responses, one function per kind."""

from __future__ import annotations

from typing import Any

from stripe_alloy.api.json_types import JSON

DOCS = "https://stripe.com/docs/error-codes/"


class ApiError(Exception):
    """A 4xx or 5xx response in Stripe's words."""

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
        self.keep = False  # whether changes before the error are committed
        self.headers = headers or {}
        self.error: JSON = {"message": message, "type": kind, **details}
        if code:
            self.error = {"code": code, "doc_url": DOCS + code.replace("_", "-"), **self.error}
        if param:
            self.error["param"] = param

    def body(self, request_id: str) -> JSON:
        """Return the response body, which links to Stripe's log of the request."""
        log = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": {**self.error, "request_log_url": log}}


def missing(label: str, object_id: str, param: str = "id") -> ApiError:
    """Return `resource_missing`: a 404 for the ID in the path, a 400 for another parameter."""
    status = 404 if param == "id" else 400
    return ApiError(status, f"No such {label}: '{object_id}'", code="resource_missing", param=param)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for an invalid parameter."""
    return ApiError(400, message, code=code, param=param)


def unknown_parameter(names: list[str]) -> ApiError:
    """Return the error for parameters that the endpoint does not have."""
    listed = ", ".join(names)
    plural = "s" if len(names) > 1 else ""
    return invalid(f"Received unknown parameter{plural}: {listed}", names[0], "parameter_unknown")


def required(name: str) -> ApiError:
    """Return the error for a missing parameter."""
    return invalid(f"Missing required param: {name}.", name, "parameter_missing")


def unrecognized_url(method: str, path: str) -> ApiError:
    """Return the error for an unknown endpoint."""
    hint = "Please see https://stripe.com/docs or we can help at https://support.stripe.com/."
    return ApiError(404, f"Unrecognized request URL ({method}: {path}). {hint}")


def masked(key: str) -> str:
    """Return a key as Stripe shows it: its prefix and its last four characters."""
    if len(key) < 16:
        return "*" * len(key)
    kind = "_".join(key.split("_")[:2]) + "_" if key.count("_") >= 2 else ""
    return f"{kind}{'*' * (len(key) - len(kind) - 4)}{key[-4:]}"


def bad_key(key: str) -> ApiError:
    """Return the error for an unknown or revoked key."""
    return ApiError(401, f"Invalid API Key provided: {masked(key)}")


def no_key() -> ApiError:
    """Return the error for a request without a key."""
    return ApiError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization "
        "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
    )


def forbidden(key: str, account: str, permission: str) -> ApiError:
    """Return the error for a restricted key without the permission."""
    return ApiError(
        403,
        f"The provided key '{masked(key)}' does not have the required permissions for this "
        f"endpoint on account '{account}'. Having the '{permission}' permission would allow this "
        "request to continue.",
    )


def no_account(key: str, account: str) -> ApiError:
    """Return the error for an account that the key has no access to."""
    return ApiError(
        403,
        f"The provided key '{masked(key)}' does not have access to account '{account}' (or that "
        "account does not exist). Application access may have been revoked.",
        code="account_invalid",
    )


def rate_limited(reason: str) -> ApiError:
    """Return the error for too many requests; its header names the limit."""
    return ApiError(
        429,
        "Request rate limit exceeded. You can learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": reason, "Stripe-Should-Retry": "true"},
    )
