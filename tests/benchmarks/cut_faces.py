"""How often a face that the picture's edge cuts is read wrongly with confidence, by how much of its box lies outside.

    python tests/benchmarks/cut_faces.py FOLDER…

Every face of 60 pixels and more that is read in a whole picture is read again with 10 to 60 % of its box beyond the
lower, left or right edge. A reading counts as wrong when it names another emotion than the whole face had.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from edge import FaceReader
from edge.api import Face
from edge.images import decode_picture, is_picture
from edge.pipeline.quality import outside_share

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
LIMITS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)


def cut(image: np.ndarray, face: Face, share: float, side: str) -> np.ndarray:
    """The picture without what lies beyond an edge that leaves ``share`` of the face's box outside."""
    x, y, w, h = face.xywh
    if side == "bottom":
        return image[: max(1, round(y + h * (1 - share)))]
    if side == "left":
        return image[:, max(0, round(x + w * share)) :]
    return image[:, : max(1, round(x + w * (1 - share)))]


def nearest(faces: list[Face], landmarks: np.ndarray, shift_x: float) -> Face | None:
    """The face whose eyes are where the whole face's are."""
    at = landmarks[:2].mean(axis=0) - (shift_x, 0)
    size = np.linalg.norm(landmarks[0] - landmarks[1])
    near = [face for face in faces if np.linalg.norm(face.landmarks[:2].mean(axis=0) - at) < size]
    return near[0] if near else None


def main(folders: list[str]) -> None:
    """Print the table."""
    wrong: dict[float, list[tuple[float, bool]]] = defaultdict(list)
    whole: list[float] = []
    with FaceReader(settings={"quality.max_cut": 1.0}) as reader:
        paths = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if is_picture(path)]
        for path in paths:
            image = decode_picture(path.read_bytes())
            if image is None:
                continue
            size_wh = (image.shape[1], image.shape[0])
            for face in reader.read(image):
                outside = outside_share(face.xywh, size_wh)
                if min(face.xywh[2:]) < 60 or face.reason:
                    continue
                whole.append(outside)
                if outside > 0.02:
                    continue
                for side in ("bottom", "left", "right"):
                    for share in SHARES:
                        part = np.ascontiguousarray(cut(image, face, share, side))
                        if min(part.shape[:2]) < 40:
                            continue
                        again = nearest(
                            reader.read(part), face.landmarks, image.shape[1] - part.shape[1] if side == "left" else 0
                        )
                        if again is not None:
                            is_wrong = again.reason is None and again.emotion != face.emotion
                            wrong[share].append((outside_share(again.xywh, (part.shape[1], part.shape[0])), is_wrong))
    print(f"OpenCV {cv2.__version__}; {len(whole)} faces read in whole pictures")
    print("limit   " + "  ".join(f"cut {share:.0%}".rjust(9) for share in SHARES) + "   whole faces newly uncertain")
    for limit in (1.0, *LIMITS):
        cells = [f"{np.mean([bad and out <= limit for out, bad in wrong[share]]):9.1%}" for share in SHARES]
        lost = float(np.mean([out > limit for out in whole]))
        print(f"{limit:5.2f}   {'  '.join(cells)}   {lost:.1%}")
    print("n       " + "  ".join(f"{len(wrong[share]):9d}" for share in SHARES))


if __name__ == "__main__":
    main(sys.argv[1:])
