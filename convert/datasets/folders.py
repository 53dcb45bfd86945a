"""Class folders: ``[train|test/]<class>/<picture>``, as the Kaggle copies of FER2013 and most other sets have them.

The class is the folder that holds the picture. The split is what stands before the number in names such as
``PublicTest_17.png``, else the nearest folder above that is called like one (``train``, ``val``, ``test`` …).
"""

from __future__ import annotations

from pathlib import Path

from convert.datasets.dataset import stack_images
from convert.datasets.pictures import find_pictures, read_picture, unread_pictures
from convert.datasets.samples import Samples, same_text, texts
from convert.datasets.split_names import UNSPLIT, split_named, split_of_filename
from edge.errors import DataError


class ClassFolders:
    """Reader of any tree of class folders."""

    def recognises(self, path: Path) -> bool:
        """True for a folder with pictures in folders below it."""
        return path.is_dir() and any(picture.parent != path for picture in find_pictures(path))

    def files(self, path: Path) -> list[Path]:
        """All pictures below the folder."""
        return list(find_pictures(path))

    def read(self, path: Path) -> Samples:
        """Reads all pictures; see `Reader.read`."""
        pictures = self.files(path)
        if not pictures:
            raise DataError(path, "no picture in any folder below; wanted: one folder a class with pictures in it")
        loose = next((picture for picture in pictures if picture.parent == path), None)
        if loose is not None:
            raise DataError(loose, f"lies in no class folder of {path.name}; wanted: <class>/{loose.name}")
        return Samples(
            images=stack_images([read_picture(picture) for picture in pictures]),
            classes=texts([picture.parent.name for picture in pictures]),
            splits=texts([_split_of(picture, path) for picture in pictures]),
            subjects=same_text("", len(pictures)),
            sequences=same_text("", len(pictures)),
            ids=texts([picture.relative_to(path).as_posix() for picture in pictures]),
            left_out=unread_pictures(path),
        )


def _split_of(picture: Path, root: Path) -> str:
    named = split_of_filename(picture.stem)
    if named is not None:
        return named
    above = [root.resolve().name, *picture.relative_to(root).parts[:-2]]
    return next((split for part in reversed(above) if (split := split_named(part)) is not None), UNSPLIT)
