"""Run the daemon's pipeline with its configuration: ``python -m edge.examples.configured mien.toml film.mp4``."""

import sys

from edge import MienError, read_stream

if __name__ == "__main__":
    try:
        frames = faces = 0
        for step in read_stream(sys.argv[2], config=sys.argv[1], settings={"track.confirm_ms": 0}):
            frames, faces = frames + 1, faces + len(step.faces or ())
        print(f"{frames} frames, {faces} faces")
    except MienError as error:  # a wrong key, a missing file: one line
        sys.exit(f"{error}")
