"""The splits that data sets name, in one spelling."""

from __future__ import annotations

from typing import Final

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
PUBLIC_TEST: Final = "public_test"
PRIVATE_TEST: Final = "private_test"
UNSPLIT: Final = "unsplit"
SPLITS: Final = (TRAIN, VALIDATION, TEST, PUBLIC_TEST, PRIVATE_TEST, UNSPLIT)
"""Every name that stands in `Dataset.splits`. ``public_test`` and ``private_test`` are FER2013's."""

_SPELLINGS: Final = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "publictest": PUBLIC_TEST,
    "privatetest": PRIVATE_TEST,
    "unsplit": UNSPLIT,
}


def split_named(text: str) -> str | None:
    """Our name of a split spelt ``Training``, ``PublicTest``, ``private_test``, ``val`` …; None for anything else."""
    return _SPELLINGS.get(text.strip().lower().replace("_", "").replace("-", ""))


def split_of_filename(stem: str) -> str | None:
    """The split that stands before the number in ``Training_17``, ``PublicTest_17`` or ``PrivateTest_17``."""
    head, _, tail = stem.partition("_")
    return split_named(head) if tail and tail[0].isdigit() else None


def selected_by(split: str) -> tuple[str, ...]:
    """The splits meant by asking for one: ``test`` means FER2013's public and private test, too."""
    return (TEST, PUBLIC_TEST, PRIVATE_TEST) if split == TEST else (split,)
