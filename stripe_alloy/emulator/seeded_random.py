"""Chance that comes out the same on every Python: only random() and getrandbits() are used."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class SeededRandom:
    """A seeded source of choices, numbers and ids."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - believable data, no secrets

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[int(self._random.random() * len(choices))]

    def weighted(self, choices: Sequence[tuple[T, int]]) -> T:
        """One of the choices, by weight."""
        left = self._random.random() * sum(weight for _, weight in choices)
        for choice, weight in choices:
            left -= weight
            if left < 0:
                return choice
        return choices[-1][0]

    def text(self, length: int) -> str:
        """Letters and digits, as in Stripe's ids."""
        bits = self._random.getrandbits(6 * length)
        return "".join(ALPHABET[(bits >> 6 * i) % 64 % 62] for i in range(length))

    def digits(self, length: int) -> str:
        """Decimal digits."""
        return f"{self._random.getrandbits(64) % 10**length:0{length}d}"
