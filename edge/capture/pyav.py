"""Files and streams through PyAV (FFmpeg), in the form of `edge.capture.opencv.OpencvCapture`; deinterlaces.

An extra, imported only when OpenCV's own way cannot read a file or stream; never for a local camera.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from edge.capture.shared_device import SharedDevice
from edge.records import Image


class AvCapture:
    """One container that is read through PyAV."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._stream = container.streams.video[0]
        self._device = SharedDevice(container.close)
        self._packets: Iterator[Any] = container.demux(self._stream)
        self._ready: deque[Any] = deque()
        self._graph: Any = None
        self._frame: Any = None
        self.corrupt = 0

    @classmethod
    def open(cls, target: str, *, options: dict[str, str] | None = None) -> AvCapture | None:
        """Open a file or address; None where PyAV cannot.

        Args:
            target: file or address.
            options: of FFmpeg.
        """
        import av

        av.logging.set_level(av.logging.PANIC)  # its messages hold addresses with their passwords
        try:
            container = av.open(target, options=options or {}, timeout=(10.0, 5.0))
        except (av.error.FFmpegError, OSError, ValueError):
            return None
        if not container.streams.video:
            container.close()
            return None
        container.streams.video[0].thread_type = "AUTO"
        return cls(container)

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._device.closed

    def grab(self) -> bool:
        """Take the next frame; False at the end, on an error or once closed."""
        with self._device.using() as usable:
            if not usable:
                return False
            while not self._ready:
                if not self._decode_packet():
                    return False
            self._frame = self._ready.popleft()
            return True

    def retrieve(self) -> Image | None:
        """Return the grabbed frame, (height, width, 3) uint8 BGR, turned as the file says."""
        if self._frame is None:
            return None
        image = self._frame.to_ndarray(format="bgr24")
        turns = round(getattr(self._frame, "rotation", 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def get(self, key: int) -> float:
        """Return position, rate and number of frames as ``cv2.CAP_PROP_…`` has them; 0 for what is not known."""
        if key == cv2.CAP_PROP_POS_MSEC:
            return 1000.0 * (self._frame.time or 0.0) if self._frame is not None else 0.0
        if key == cv2.CAP_PROP_FPS:
            return float(self._stream.average_rate or 0)
        if key == cv2.CAP_PROP_FOURCC:
            return float(int.from_bytes(self._stream.codec.name[:4].encode().ljust(4), "little"))
        if key == cv2.CAP_PROP_FRAME_COUNT:
            return float(self._stream.frames)
        return 0.0

    def close(self) -> None:
        """Free the container, or leave that to the read that is under way."""
        self._device.close()

    def _decode_packet(self) -> bool:
        """Decode one packet; False at the end of the stream or when it breaks."""
        import av

        try:
            packet = next(self._packets)
            frames = packet.decode()
        except av.error.InvalidDataError:
            self.corrupt += 1
            return True
        except (StopIteration, av.error.FFmpegError, OSError):
            if self._graph is not None:
                self._ready.extend(self._pull(None))  # what the filter holds back
            return bool(self._ready)
        for frame in frames:
            self._ready.extend(self._progressive(frame))
        return True

    def _progressive(self, frame: Any) -> Iterator[Any]:
        """Yield a frame as it is, or deinterlaced once interlaced ones have come."""
        import av

        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            graph = av.filter.Graph()
            source = graph.add_buffer(template=self._stream)
            graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
            graph.configure()
            self._graph = graph
        yield from self._pull(frame)

    def _pull(self, frame: Any) -> Iterator[Any]:
        """Give a frame to the filter, None at the end, and yield what it has ready."""
        import av

        try:
            self._graph.push(frame)
            while True:
                yield self._graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
