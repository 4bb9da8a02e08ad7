"""Stripe's lists: where one is, and which inside an object hold only their first entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tap_stripe_alloy.backfill import HISTORY
from tap_stripe_alloy.records import Object


@dataclass(frozen=True)
class Listed:
    """A list of Stripe's."""

    path: str
    params: Sequence[tuple[str, str]] = ()
    by_created: bool = True
    """Whether it can be filtered by `created`."""
    history: int = HISTORY
    """Seconds that it is taken to go back."""
    expand: Sequence[str] = ()
    nested: Sequence[tuple[str, ...]] = ()
    """Where its objects hold lists that Stripe cuts short."""


def cut_short(source: Object, path: Sequence[str]) -> dict[str, Any] | None:
    """The list at a path inside an object, if it holds only its first entries."""
    inner: Any = source
    for key in path:
        inner = inner.get(key)
        if not inner:
            return None
    found: dict[str, Any] = inner
    return found if found.get("has_more") else None
