"""Print every face of a picture: ``python -m edge.examples.picture group.jpg``."""

import sys

from edge import read_faces

if __name__ == "__main__":
    for face in read_faces(sys.argv[1]):
        print(face.emotion, f"{face.confidence:.0%}", face.reason or "", [round(value) for value in face.xywh])
