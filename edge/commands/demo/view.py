"""The demo's picture: the scene drawn again from the number of a frame, with the faces that came over MQTT."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
from rich.color import Color
from rich.style import Style
from rich.text import Text

from edge.capture.demo_scene import Scene
from edge.commands.colors import rgb_of
from edge.publish.payloads import FacesPayload
from edge.records import Image

FPS = 20
"""Of the demo's camera; a frame's number is its time in the scene."""


class SceneView:
    """The scene as the daemon saw it: no picture is sent, so it is made here a second time."""

    def __init__(self) -> None:
        self._scene: Scene | None = None

    def draw(self, told: FacesPayload, *, labels: bool = True) -> Image:
        """Return the frame that a payload is about, with its faces: boxes in the emotions' colours, and names."""
        if self._scene is None:
            self._scene = Scene(size_wh=(told.frame.w, told.frame.h), fps=FPS)
        picture: Image = self._scene.draw(told.number).copy()
        for face in told.faces:
            box, colour = face.box, rgb_of(face.emotion)[::-1]
            cv2.rectangle(picture, (box.x, box.y), (box.x + box.w, box.y + box.h), colour, 3 if labels else 8)
            if labels:
                words = face.emotion if face.reason else f"{face.emotion} {face.confidence:.0%}"
                (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
                left, bottom = max(0, box.x - 1), max(height + 8, box.y)
                cv2.rectangle(picture, (left, bottom - height - 8), (left + width + 6, bottom), colour, cv2.FILLED)
                place = (left + 3, bottom - 4)
                cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        return picture

    def half_blocks(self, told: FacesPayload, *, rows: int, width: int) -> Text:
        """Return the frame in 24-bit colours, two pixels a character, at most so many rows and columns."""
        columns = min(width, rows * 2 * told.frame.w // told.frame.h)
        rows = max(1, min(rows, columns * told.frame.h // told.frame.w // 2))
        small = cv2.resize(self.draw(told, labels=False), (columns, rows * 2), interpolation=cv2.INTER_AREA)
        text = Text(no_wrap=True, end="")
        for upper, lower in zip(small[0::2].tolist(), small[1::2].tolist(), strict=True):
            for (b, g, r), (under_b, under_g, under_r) in zip(upper, lower, strict=True):
                text.append(
                    "▀", Style(color=Color.from_rgb(r, g, b), bgcolor=Color.from_rgb(under_r, under_g, under_b))
                )
            text.append("\n")
        return text

    def save(self, told: FacesPayload) -> Path:
        """Write the frame as a new picture into the folder for temporary files."""
        descriptor, name = tempfile.mkstemp(prefix="mien-demo-", suffix=".png")
        with os.fdopen(descriptor, "wb") as file:
            file.write(cv2.imencode(".png", self.draw(told))[1].tobytes())
        return Path(name)
