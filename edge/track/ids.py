"""Short random ids of tracks, none of which ever comes twice."""

from __future__ import annotations

import random
from typing import Final

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
"""Base32 of RFC 4648 in lower case: no digits that look like letters."""
BITS_PER_CHARACTER: Final = 5
LENGTHS: Final = (4, 5, 6)


class TrackIds:
    """Makes ids: all of 4 characters in a random order, then all of 5, then all of 6 (over a thousand million).

    The order is that of a bijection of the counter drawn from ``rng``, so that nothing has to be remembered to keep
    them different. Seeded alike, the ids are alike.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._count = 0
        self._length = 0
        self._draw_order()

    def __call__(self) -> str:
        """The next id."""
        bits = LENGTHS[self._length] * BITS_PER_CHARACTER
        if self._count == 1 << bits:
            self._length = (self._length + 1) % len(LENGTHS)
            self._draw_order()
            bits = LENGTHS[self._length] * BITS_PER_CHARACTER
        value, mask = self._count, (1 << bits) - 1
        for factor, offset in self._rounds:  # odd factors and shifted xors are bijections of 0..mask
            value = (value * factor + offset) & mask
            value ^= value >> (bits // 2)
        self._count += 1
        return "".join(ALPHABET[value >> shift & 31] for shift in range(bits - 5, -1, -5))

    def _draw_order(self) -> None:
        self._count = 0
        self._rounds = tuple((self._rng.getrandbits(32) | 1, self._rng.getrandbits(32)) for _ in range(4))
