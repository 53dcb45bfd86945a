"""Call a function at each event: ``python -m edge.examples.events film.mp4``."""

import sys

from edge import Event, read_stream


def tell(event: Event) -> None:
    """Print one event."""
    print(f"#{event.seq} {event.face.track} {event.type}: {event.previous} -> {event.face.emotion}", event.reason or "")


if __name__ == "__main__":
    for _ in read_stream(sys.argv[1], on_event=tell):
        pass
