"""A network camera that can be told to misbehave: real HTTP, real MJPEG."""

from __future__ import annotations

import http.server
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


def face_picture(portrait: Path, size_wh: tuple[int, int] = (640, 480)) -> Picture:
    """One person on a grey background."""
    head = cv2.imread(str(portrait))
    height = size_wh[1] * 9 // 10
    head = cv2.resize(head, (height * head.shape[1] // head.shape[0], height), interpolation=cv2.INTER_AREA)
    picture = np.full((size_wh[1], size_wh[0], 3), 110, np.uint8)
    left = (size_wh[0] - head.shape[1]) // 2
    picture[10 : 10 + height, left : left + head.shape[1]] = head
    return picture


def encode(picture: Picture) -> bytes:
    """As JPEG."""
    done, jpeg = cv2.imencode(".jpg", picture)
    assert done
    return jpeg.tobytes()


class NetworkCamera:
    """Serves ``http://127.0.0.1:port/video`` at 15 pictures a second, whatever ``jpegs`` are, in turn.

    Attributes:
        jpegs: what is sent, in turn; may be changed at any time, and need not be JPEG.
        frozen: connected, but nothing is sent.
        port: where it listens.
        streams: how often somebody began to watch.
    """

    def __init__(self, jpegs: list[bytes]) -> None:
        self.jpegs, self.frozen, self.streams = jpegs, False, 0
        self._server: http.server.ThreadingHTTPServer | None = None
        self.port = 0
        self.plug_in()

    @property
    def url(self) -> str:
        """What a configuration names."""
        return f"http://127.0.0.1:{self.port}/video"

    def plug_in(self) -> None:
        """Listens, on the same port as before."""
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._stream(self)

            def log_message(self, format: str, *args: object) -> None: ...

        http.server.ThreadingHTTPServer.allow_reuse_address = True
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def unplug(self) -> None:
        """Ends every stream and refuses new ones."""
        server, self._server = self._server, None
        assert server is not None
        server.shutdown()
        server.server_close()

    def close(self) -> None:
        """Ends everything."""
        if self._server is not None:
            self.unplug()

    def _stream(self, request: http.server.BaseHTTPRequestHandler) -> None:
        mine, number = self._server, 0
        self.streams += 1
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        request.end_headers()
        while self._server is mine:
            time.sleep(1 / 15)
            if self.frozen:
                continue
            jpeg = self.jpegs[number % len(self.jpegs)]
            number += 1
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            try:
                request.wfile.write(head + jpeg + b"\r\n")
            except OSError:
                return
