from __future__ import annotations

import random
from itertools import pairwise

from edge.track import ids as module
from edge.track.ids import ALPHABET, TrackIds


def test_ids_are_four_characters_of_base32_and_none_comes_twice() -> None:
    new_id = TrackIds(random.Random(1))
    made = [new_id() for _ in range(50_000)]
    assert len(set(made)) == len(made)
    assert all(len(id) == 4 and set(id) <= set(ALPHABET) for id in made)


def test_neighbours_do_not_look_alike() -> None:
    new_id = TrackIds(random.Random(2))
    made = [new_id() for _ in range(2000)]
    equal = sum(a == b for one, two in pairwise(made) for a, b in zip(one, two, strict=True))
    assert equal < 2000 * 4 / 32 * 2


def test_seeds_decide() -> None:
    a, b, c = (TrackIds(random.Random(seed)) for seed in (5, 5, 6))
    first, same, other = ([new_id() for _ in range(20)] for new_id in (a, b, c))
    assert first == same != other


def test_when_all_short_ids_are_used_up_longer_ones_follow() -> None:
    new_id = TrackIds(random.Random(3))
    short = {new_id() for _ in range(1 << 20)}
    assert len(short) == 1 << 20
    assert len(new_id()) == module.LENGTHS[1]
