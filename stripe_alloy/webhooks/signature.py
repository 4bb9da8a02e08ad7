"""Pure: verifies the `Stripe-Signature` header of a request.

The header is `t=<Unix seconds>,v1=<hex>[,v1=<hex>…]`, each `v1` an HMAC-SHA256 of `<t>.<body>` by
one of the endpoint's secrets: two while a secret is rolled (docs.stripe.com/webhooks/signature).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

TOLERANCE = 300
"""Maximum age of a signature in seconds, as in Stripe's own libraries."""
SCHEME = "v1"


class SignatureVerificationError(Exception):
    """The signature is invalid or too old; the message contains nothing of the body."""


def verify(
    body: bytes, header: str | None, secrets: Sequence[str], *, now: float, tolerance: int
) -> str:
    """Return the secret that signed the body; raises `SignatureVerificationError`.

    `now` is in Unix seconds. A signature from the future is accepted, as by Stripe's own library:
    the secret is right, and a clock that is slow must not lose events.
    """
    time, signatures = _parse(header or "")
    signed = b"%d.%s" % (time, body)
    expected = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
    # All pairs are compared, so that the duration reveals nothing about the signature.
    matches = [
        any([hmac.compare_digest(made, given) for given in signatures])  # noqa: C419
        for made in expected
    ]
    if not any(matches):
        raise SignatureVerificationError("No signature by a known secret")
    if time < now - tolerance:
        raise SignatureVerificationError(f"Signed {now - time:.0f} s ago: more than {tolerance} s")
    return secrets[matches.index(True)]


def _parse(header: str) -> tuple[int, list[str]]:
    time: int | None = None
    signatures = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and time is None and value.isascii() and value.isdigit() and len(value) < 16:
            time = int(value)
        elif name == SCHEME and value.isascii():
            signatures.append(value)
    if time is None or not signatures:
        raise SignatureVerificationError("No Stripe-Signature header of the form t=…,v1=…")
    return time, signatures
