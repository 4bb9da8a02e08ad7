"""Signatures: what our verification says and what the `stripe` package's says is the same."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.webhooks.signature import TOLERANCE, SignatureVerificationError, verify

SECRET, OTHER = "whsec_one", "whsec_two"


def ours(body: bytes, header: str | None, now: float, *secrets: str) -> bool:
    try:
        verify(body, header, secrets or (SECRET,), now=now, tolerance=TOLERANCE)
    except SignatureVerificationError:
        return False
    return True


def theirs(body: bytes, header: str | None, now: float, monkeypatch: pytest.MonkeyPatch) -> bool:
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        try:
            return bool(stripe.WebhookSignature.verify_header(body, header, SECRET, TOLERANCE))
        except stripe.SignatureVerificationError:
            return False


def header_of(body: str, secret: str, at: int) -> str:
    return str(stripe.WebhookSignature.generate_signature_header(body, secret, at))


mangled = st.sampled_from(
    [
        lambda header: header,
        lambda header: header.replace("v1=", "v0="),
        lambda header: header[:-1],
        lambda header: header[:-1] + ("0" if header[-1] != "0" else "1"),
        lambda header: header.partition(",")[2],
        lambda header: header.partition(",")[0],
        lambda header: header.replace("t=", "t=1"),
        lambda header: header.upper(),
        lambda header: "",
        lambda header: "t=,v1=",
        lambda header: header + ",v1=" + "0" * 64,
        lambda header: "v1=" + "0" * 64 + "," + header,
        lambda header: header + ",v0=abc",
    ]
)


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(0, 4_000_000_000),
    st.integers(-2 * TOLERANCE, 2 * TOLERANCE),
    st.booleans(),
    mangled,
)
def test_it_agrees_with_the_stripe_package(
    body: str, at: int, age: int, good: bool, mangle: Callable[[str], str]
) -> None:
    header = mangle(header_of(body, SECRET if good else OTHER, at))
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert ours(body.encode(), header, at + age) == theirs(
            body.encode(), header, at + age, monkeypatch
        )


def test_any_of_several_secrets_will_do() -> None:
    header = header_of("{}", OTHER, 1_000)
    assert ours(b"{}", header, 1_000, SECRET, OTHER)
    assert not ours(b"{}", header, 1_000, SECRET)
    assert not ours(b"{}", header, 1_000, "whsec_")


def test_any_of_several_signatures_will_do_while_a_secret_is_rolled() -> None:
    old, new = header_of("{}", SECRET, 1_000), header_of("{}", OTHER, 1_000)
    both = f"{old},{new.partition(',')[2]}"
    assert ours(b"{}", both, 1_000, SECRET)
    assert ours(b"{}", both, 1_000, OTHER)


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    assert not ours(b"\xff\xfe", header_of("\ufffd\ufffd", SECRET, 1_000), 1_000)


@pytest.mark.parametrize("header", [None, "", "t", "t=x,v1=y", "t=²,v1=00", "v1=00", "t=1", "é=é"])
def test_what_is_no_header_is_refused(header: str | None) -> None:
    with pytest.raises(SignatureVerificationError, match="No Stripe-Signature header"):
        verify(b"{}", header, [SECRET], now=1.0, tolerance=TOLERANCE)


def test_the_refusal_tells_nothing_of_the_body() -> None:
    with pytest.raises(SignatureVerificationError) as refused:
        verify(b"top secret", header_of("other", SECRET, 1), [SECRET], now=1.0, tolerance=TOLERANCE)
    assert "top secret" not in str(refused.value)
