"""Compare models on a picture in memory: ``python -m edge.examples.model a.jpg emotion-ferplus emotion-nano``."""

import sys

import cv2

from edge import FaceReader

if __name__ == "__main__":
    pixels = cv2.imread(sys.argv[1])  # (height, width, 3) uint8, BGR
    if pixels is None:
        sys.exit(f"{sys.argv[1]}: is no picture")
    for name in sys.argv[2:]:
        with FaceReader(model=name) as reader:
            for face in reader.read(pixels):
                best = sorted(face.scores.items(), key=lambda item: -item[1])[:2]
                print(name, ", ".join(f"{label} {score:.2f}" for label, score in best))
