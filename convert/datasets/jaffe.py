"""JAFFE: ``KA.AN1.39.tiff`` is subject KA, angry, her first such picture, number 39.

213 posed pictures of ten women, 256 x 256, grey. A picture shows head and shoulders, not the face alone.
Source: Lyons, Kamachi, Gyoba, The Japanese Female Facial Expression (JAFFE) Dataset, 1998.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from convert.datasets.dataset import stack_images
from convert.datasets.pictures import all_pictures, find_pictures, read_picture, unread_pictures
from convert.datasets.samples import Samples, same_text, texts
from convert.datasets.split_names import UNSPLIT
from edge.errors import DataError

NAME: Final = re.compile(r"^(?P<subject>[A-Z]{2})\.(?P<code>[A-Z]{2})\d\.\d+$", re.IGNORECASE)
CLASSES: Final = {
    "AN": "angry", "DI": "disgust", "FE": "fear", "HA": "happy", "SA": "sad", "SU": "surprise", "NE": "neutral",
}  # fmt: skip


class Jaffe:
    """Reader of JAFFE, in one folder or in folders of any kind."""

    def recognises(self, path: Path) -> bool:
        """True for a folder in which every picture is named like one of JAFFE's."""
        return all_pictures(path, lambda picture: NAME.match(picture.stem))

    def files(self, path: Path) -> list[Path]:
        """All pictures below the folder."""
        return list(find_pictures(path))

    def read(self, path: Path) -> Samples:
        """Reads all pictures; class and subject come out of the name; see `Reader.read`."""
        pictures = self.files(path)
        if not pictures:
            raise DataError(path, "no picture; wanted: files such as KA.AN1.39.tiff")
        classes, subjects = [], []
        for picture in pictures:
            match = NAME.match(picture.stem)
            if match is None or match["code"].upper() not in CLASSES:
                raise DataError(
                    picture, f"not named SUBJECT.EXPRESSION.NUMBER as in KA.AN1.39.tiff with one of {' '.join(CLASSES)}"
                )
            classes.append(CLASSES[match["code"].upper()])
            subjects.append(match["subject"].upper())
        return Samples(
            images=stack_images([read_picture(picture) for picture in pictures]),
            classes=texts(classes),
            splits=same_text(UNSPLIT, len(pictures)),
            subjects=texts(subjects),
            sequences=same_text("", len(pictures)),
            ids=texts([picture.relative_to(path).as_posix() for picture in pictures]),
            left_out=unread_pictures(path),
        )
