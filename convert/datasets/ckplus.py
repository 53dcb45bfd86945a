"""CK+48: class folders with names that tell subject, sequence and frame: ``angry/S010_004_00000017.png``.

The last frames of each posed sequence of the extended Cohn-Kanade set, cut to 48 x 48: pictures of one sequence are
nearly equal, so splits must keep subjects apart.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from convert.datasets.folders import ClassFolders
from convert.datasets.pictures import all_pictures, find_pictures
from convert.datasets.samples import Samples, texts
from edge.errors import DataError

NAME: Final = re.compile(r"^(?P<subject>S\d{3})_(?P<take>\d{3})_\d{8}$")


class CkPlus48:
    """Reader of CK+48."""

    def recognises(self, path: Path) -> bool:
        """True for class folders in which every picture is named like one of CK+'s."""
        return all_pictures(path, lambda picture: NAME.match(picture.stem) and picture.parent != path)

    def files(self, path: Path) -> list[Path]:
        """All pictures below the folder."""
        return list(find_pictures(path))

    def read(self, path: Path) -> Samples:
        """Reads all pictures with subjects and sequences; see `Reader.read`."""
        matches = []
        for picture in self.files(path):
            match = NAME.match(picture.stem)
            if match is None:
                raise DataError(picture, "not named SUBJECT_SEQUENCE_FRAME as in S010_004_00000017.png")
            matches.append(match)
        return replace(
            ClassFolders().read(path),
            subjects=texts([match["subject"] for match in matches]),
            sequences=texts([f"{match['subject']}_{match['take']}" for match in matches]),
        )
