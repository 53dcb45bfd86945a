"""The records that flow through the pipeline. Data runs one way; nothing here is changed after it was made.

Boxes are in full-frame pixels. Times named ``timestamp_ns`` are of the monotonic clock and always arguments: no stage
reads a clock. Wall time is attached when a payload is encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""(height, width, 3) uint8, blue-green-red, as OpenCV has it; or (height, width) grey where said."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a camera.

    Attributes:
        image: (height, width, 3) uint8 BGR. Not written to by anybody.
        timestamp_ns: time of capture, monotonic clock.
        number: counts the frames of this source from 0, dropped ones included.
        source: what the frame came from; for a folder the picture's path.
        discontinuity: True when this frame does not continue the previous one (a file begins again, the next picture of
            a folder).
        lores: the same picture at a lower resolution, (height, width, 3) uint8 BGR, where the camera delivers one.
    """

    image: Image
    timestamp_ns: int
    number: int
    source: str
    discontinuity: bool = False
    lores: Image | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, slots=True)
class Faces:
    """All faces that a detector found in one frame, best first.

    Attributes:
        xywh: (n, 4) float32, left, top, width, height in full-frame pixels; may reach over the frame's edge.
        scores: (n,) float32 in 0..1.
        landmarks: (n, 5, 2) float32 in full-frame pixels: right eye, left eye, nose, right and left mouth corner
            (the person's right and left).
        bound_hit: True when there were more faces than the configured bound and the weakest were left out.
    """

    xywh: Floats
    scores: Floats
    landmarks: Floats
    bound_hit: bool = False

    def __len__(self) -> int:
        return len(self.scores)


NO_FACES = Faces(
    xywh=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), landmarks=np.zeros((0, 5, 2), np.float32)
)


@dataclass(frozen=True, slots=True)
class Track:
    """One followed face as of one frame.

    Attributes:
        id: short random text from the injected generator, never derived from the face.
        xywh: left, top, width, height in full-frame pixels.
        landmarks: (5, 2) float32 in full-frame pixels, order as in `Faces`.
        score: the detector's score when the face was last observed, 0..1.
        observed: True when the detector saw the face in this frame.
        first_ns: timestamp of the frame in which it was first seen.
        last_seen_ns: timestamp of the last frame in which the detector saw it.
        followed: True when the detector rested in this frame and the face was found by its looks. Neither observed nor
            followed: its place is predicted.
    """

    id: str
    xywh: tuple[float, float, float, float]
    landmarks: Floats
    score: float
    observed: bool
    first_ns: int
    last_seen_ns: int
    followed: bool = False


@dataclass(frozen=True, slots=True)
class Tracks:
    """The outcome of one tracker update.

    Attributes:
        active: confirmed tracks to be shown and classified, in order of their first appearance.
        ended: ids of confirmed tracks that ended with this update.
        unsettled: True while a face is not confirmed yet, or was missed a moment ago: the detector should look again in
            the next frame.
    """

    active: tuple[Track, ...] = ()
    ended: tuple[str, ...] = ()
    unsettled: bool = False


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a face can be read.

    Attributes:
        face_px: shorter side of the face's box in pixels.
        blur: 0 (sharp) .. 1 (nothing left of the edges).
        yaw: -1..1, 0 frontal, positive when the nose points to the picture's right.
        brightness: mean grey of the crop, 0..1.
        cut: share of the face's box beyond the frame's edge, 0..1.
    """

    face_px: float
    blur: float
    yaw: float
    brightness: float
    cut: float = 0.0


class Reason(str, Enum):
    """Why no emotion is named for a face."""

    TOO_SMALL = "too_small"
    BLURRED = "blurred"
    TURNED = "turned"
    DARK = "dark"
    CUT_OFF = "cut_off"
    LOW_MARGIN = "low_margin"


@dataclass(frozen=True, slots=True)
class FaceState:
    """Everything known about one face of one frame.

    Attributes:
        track: the track as of this frame.
        scores: (labels,) float32, calibrated probabilities of this frame's crop; None when it was not classified.
        smoothed: (labels,) float32, the time-constant filtered scores.
        emotion: a label, or ``uncertain``.
        confidence: the smoothed score of ``emotion``; of the strongest label when uncertain.
        reason: why the face is ``uncertain``; None otherwise.
        since_ns: timestamp since when ``emotion`` holds.
        evidence_frames: classified frames since then.
        quality: of this frame's crop.
    """

    track: Track
    scores: Floats | None
    smoothed: Floats
    emotion: str
    confidence: float
    reason: Reason | None
    since_ns: int
    evidence_frames: int
    quality: Quality


class EventType(str, Enum):
    """Kinds of events."""

    FACE_APPEARED = "face_appeared"
    EMOTION_CHANGED = "emotion_changed"
    FACE_LEFT = "face_left"


@dataclass(frozen=True, slots=True)
class EmotionEvent:
    """Something changed about a face.

    Attributes:
        type: what happened.
        seq: counts the events of this process from 1; the same in every sink.
        timestamp_ns: time of capture of the frame that made the event.
        face: the face as of this event (for ``face_left``: as last seen).
        previous: the emotion before, None where there was none.
        dwell_ms: how long the previous emotion held (for ``face_left``: how long the face was there).
        reason: for ``face_left`` why (``left``, ``camera_lost``, ``paused``, ``stopped``); otherwise the abstention's
            reason, None when there is none.
        frame_size_wh: size of the frame that the boxes refer to.
    """

    type: EventType
    seq: int
    timestamp_ns: int
    face: FaceState
    previous: str | None
    dwell_ms: float
    reason: str | None
    frame_size_wh: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Step:
    """What `Pipeline.step` made of one frame.

    Attributes:
        frame: the frame itself.
        faces: one state a face, in order of first appearance.
        events: what changed, in order of ``seq``.
        detected: True when the detector ran on this frame.
    """

    frame: Frame
    faces: tuple[FaceState, ...]
    events: tuple[EmotionEvent, ...]
    detected: bool
