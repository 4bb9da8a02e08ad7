"""Random values that are equal in all Python versions: only random() and getrandbits() are used."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class SeededRandom:
    """A seeded source of choices, numbers and IDs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - believable data, no secrets

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[int(self._random.random() * len(choices))]

    def weighted(self, choices: Sequence[tuple[T, int]]) -> T:
        """Return one of the choices, by weight."""
        left = self._random.random() * sum(weight for _, weight in choices)
        for choice, weight in choices:
            left -= weight
            if left < 0:
                return choice
        return choices[-1][0]

    def text(self, length: int) -> str:
        """Return letters and digits, as in Stripe's IDs."""
        bits = self._random.getrandbits(6 * length)
        return "".join(ALPHABET[(bits >> 6 * i) % 64 % 62] for i in range(length))

    def digits(self, length: int) -> str:
        """Return decimal digits."""
        return f"{self._random.getrandbits(64) % 10**length:0{length}d}"
