"""Arrays in one ``.npz``.

Keys: ``images`` (n, height, width) grey or (n, height, width, 3) BGR, uint8, or ``mosaics_webp``, ``offsets``,
``count`` (lossless WebP mosaics of 24 x 24 tiles of 48 px); ``labels`` (n,) class names, or integers that index
``classes`` (m,) texts, or, where there are no ``classes``, FER2013's order; optional ``usage`` (n,) 0 Training,
1 PublicTest, 2 PrivateTest, or ``split`` (n,) texts; ``ferplus_votes`` (n, 10) uint8; ``subject``, ``sequence``,
``name`` (n,) texts.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from convert.datasets.ferplus import COLUMNS, Votes
from convert.datasets.pictures import decode_picture
from convert.datasets.samples import Samples, same_text, texts
from convert.datasets.split_names import PRIVATE_TEST, PUBLIC_TEST, SPLITS, TRAIN, UNSPLIT, split_named
from edge.contract.labels import LABELS
from edge.contract.preprocess import to_grey
from edge.errors import DataError

USAGES: Final = (TRAIN, PUBLIC_TEST, PRIVATE_TEST)
TILES_PER_SIDE: Final = 24
TILE_PX: Final = 48

_Arrays = Mapping[str, npt.NDArray[Any]]


class Arrays:
    """Reader of ``.npz``."""

    def recognises(self, path: Path) -> bool:
        """True for a file that ends in ``.npz``."""
        return path.is_file() and path.suffix.lower() == ".npz"

    def files(self, path: Path) -> list[Path]:
        """The file itself."""
        return [path]

    def read(self, path: Path) -> Samples:
        """Reads all rows; see `Reader.read`."""
        arrays = _load(path)
        if "labels" not in arrays:
            raise DataError(path, f"no array 'labels'; there are {', '.join(sorted(arrays))}")
        images = _images(path, arrays)
        count = len(images)
        for key in ("labels", "usage", "split", "ferplus_votes", "subject", "sequence", "name"):
            if key in arrays and len(np.atleast_1d(arrays[key])) != count:
                raise DataError(path, f"{key}: {arrays[key].shape} does not fit {count} images")
        named = texts([f"{path.name}[{row}]" for row in range(count)])
        return Samples(
            images=images,
            classes=_classes(path, arrays),
            splits=_splits(path, arrays, count),
            subjects=arrays["subject"].astype(np.str_) if "subject" in arrays else same_text("", count),
            sequences=arrays["sequence"].astype(np.str_) if "sequence" in arrays else same_text("", count),
            ids=arrays["name"].astype(np.str_) if "name" in arrays else named,
            votes=_votes(path, arrays),
        )


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise DataError(path, f"no readable .npz of plain arrays: {' '.join(str(error).split())}") from error


def _images(path: Path, arrays: _Arrays) -> npt.NDArray[np.uint8]:
    if "images" in arrays:
        images = arrays["images"]
        if images.ndim == 4 and images.shape[3] == 1:
            images = images[:, :, :, 0]
        if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
            raise DataError(
                path,
                f"images: {images.dtype} {images.shape}; wanted uint8 (n, height, width) or (n, height, width, 3)",
            )
        return images
    missing = {"mosaics_webp", "offsets", "count"} - set(arrays)
    if missing:
        raise DataError(path, f"no array 'images', nor {', '.join(sorted(missing))}; there are {', '.join(arrays)}")
    return _from_mosaics(path, arrays)


def _from_mosaics(path: Path, arrays: _Arrays) -> npt.NDArray[np.uint8]:
    encoded, offsets, count = arrays["mosaics_webp"].tobytes(), arrays["offsets"], int(arrays["count"])
    side, tiles = TILES_PER_SIDE * TILE_PX, []
    for number, (start, end) in enumerate(pairwise(offsets)):
        mosaic = to_grey(decode_picture(encoded[start:end], f"{path}: mosaic {number}"))
        if mosaic.shape != (side, side):
            raise DataError(path, f"mosaic {number}: {mosaic.shape} pixels; wanted ({side}, {side})")
        grid = mosaic.reshape(TILES_PER_SIDE, TILE_PX, TILES_PER_SIDE, TILE_PX)
        tiles.append(grid.swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX))
    if len(tiles) * TILES_PER_SIDE**2 < count:
        raise DataError(path, f"count: {count}; the mosaics hold {len(tiles) * TILES_PER_SIDE**2}")
    return np.concatenate(tiles)[:count]


def _classes(path: Path, arrays: _Arrays) -> npt.NDArray[np.str_]:
    labels = arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise DataError(path, f"labels: {labels.dtype} {labels.shape}; wanted one integer or class name an image")
    if labels.dtype.kind == "U":
        return labels
    names = arrays["classes"].astype(np.str_) if "classes" in arrays else np.array(LABELS)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        raise DataError(path, f"labels[{wrong[0]}]: {labels[wrong[0]]} is not in 0..{len(names) - 1}")
    chosen: npt.NDArray[np.str_] = names[labels.astype(np.int64)]
    return chosen


def _splits(path: Path, arrays: _Arrays, count: int) -> npt.NDArray[np.str_]:
    if "split" in arrays:
        spelt = [split_named(str(value)) for value in arrays["split"]]
        if None in spelt:
            row = spelt.index(None)
            raise DataError(path, f"split[{row}]: {str(arrays['split'][row])!r} is not one of {', '.join(SPLITS)}")
        return texts([split for split in spelt if split is not None])
    if "usage" not in arrays:
        return same_text(UNSPLIT, count)
    usage = arrays["usage"].astype(np.int64)
    wrong = np.flatnonzero((usage < 0) | (usage >= len(USAGES)))
    if len(wrong):
        raise DataError(path, f"usage[{wrong[0]}]: {usage[wrong[0]]} is not in 0..{len(USAGES) - 1}")
    return np.array(USAGES)[usage]


def _votes(path: Path, arrays: _Arrays) -> Votes | None:
    if "ferplus_votes" not in arrays:
        return None
    votes = arrays["ferplus_votes"]
    if votes.dtype != np.uint8 or votes.ndim != 2 or votes.shape[1] != len(COLUMNS):
        raise DataError(path, f"ferplus_votes: {votes.dtype} {votes.shape}; wanted uint8 (n, {len(COLUMNS)})")
    return votes
