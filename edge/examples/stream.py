"""Print what a camera or video shows: ``python -m edge.examples.stream 0`` (Ctrl-C ends)."""

import sys

from edge import read_stream

if __name__ == "__main__":
    for step in read_stream(sys.argv[1]):
        if step.faces is None:  # not "nobody": nothing is known while the camera is away
            print(step.camera, step.detail)
        else:
            print(f"{step.time_s:.2f} s", [f"{face.track} {face.emotion}" for face in step.faces])
