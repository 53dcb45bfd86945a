"""YuNet as an int8 TFLite model: letterbox, decoding and suppression in numpy.

The network's one output holds a row of 16 integers a cell: class, objectness, box (dx, dy, dw, dh), five landmarks
(x, y). Cells are told apart by two integer comparisons; only the few that remain are ever turned into floating-point
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.config.loader import decode_options
from edge.config.schema import DetectConfig, NoOptions
from edge.contract.manifest import DetectManifest
from edge.contract.preprocess import Letterbox, fit_letterbox, resize
from edge.detect.base import Network
from edge.records import NO_FACES, Faces, Floats, Frame, Image

_CHANNELS = 16
_CLASS, _OBJECTNESS = 0, 1


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces in the pixels of the network's canvas.

    Attributes:
        scores: (n,) float32, 0..1.
        xyxy: (n, 4) float32, left, top, right, bottom.
        landmarks: (n, 5, 2) float32, order as in `edge.records.Faces`.
    """

    scores: Floats
    xyxy: Floats
    landmarks: Floats


class CellDecoder:
    """Turns the network's integers into faces: score, threshold, box and landmarks, without suppression.

    cell (x, y) at stride s: score = √(σ(class)·σ(objectness)); centre = ((dx + x)·s, (dy + y)·s);
    size = (e^dw·s, e^dh·s); landmark k = ((kx + x)·s, (ky + y)·s). As in libfacedetection and OpenCV's
    ``FaceDetectorYN``.
    """

    def __init__(self, manifest: DetectManifest, *, score: float) -> None:
        """Prepares the tables for one model.

        Args:
            manifest: gives the canvas, the strides, the output's scale and every channel's affine map.
            score: cells below it are dropped, 0..1.
        """
        width, height = canvas_size_wh(manifest)
        self._score = np.float32(score)
        anchors, levels = [], []
        for level, stride in enumerate(manifest.strides):
            rows, columns = np.mgrid[0 : height // stride, 0 : width // stride]
            anchors.append(np.stack([columns.ravel(), rows.ravel()], axis=1) * stride)
            levels.append(np.full(rows.size, level))
        self._anchors: Floats = np.concatenate(anchors).astype(np.float32)
        self._levels = np.concatenate(levels).astype(np.intp)
        self._gain, self._offset = _channel_maps(manifest)
        floors = _integer_floors(self._gain, self._offset, score=score)
        self._class_floor = floors[self._levels, _CLASS]
        self._objectness_floor = floors[self._levels, _OBJECTNESS]

    def decode(self, cells: npt.NDArray[np.int8]) -> Detections:
        """Decodes the cells that reach the score.

        Args:
            cells: (cells, 16) int8, the network's output.
        """
        plausible = cells[:, _OBJECTNESS] >= self._objectness_floor
        plausible &= cells[:, _CLASS] >= self._class_floor
        rows = np.flatnonzero(plausible)
        levels = self._levels[rows]
        values = cells[rows] * self._gain[levels] + self._offset[levels]
        odds = np.exp(-values[:, :2]) + np.float32(1)
        scores = np.float32(1) / np.sqrt(odds[:, 0] * odds[:, 1])
        passed = scores >= self._score
        scores, values, rows = scores[passed], values[passed], rows[passed]
        anchors = self._anchors[rows]
        centre = values[:, 2:4] + anchors
        half = np.exp(values[:, 4:6])
        landmarks = values[:, 6:].reshape(-1, 5, 2) + anchors[:, None]
        return Detections(scores, np.concatenate([centre - half, centre + half], axis=1), landmarks)


def canvas_size_wh(manifest: DetectManifest) -> tuple[int, int]:
    """Width and height of the canvas proper, without the stem's padding row and column."""
    return manifest.input.shape[2] - 1, manifest.input.shape[1] - 1


def _channel_maps(manifest: DetectManifest) -> tuple[Floats, Floats]:
    """Gain and offset, (strides, 16) float32 each, from an output integer to canvas pixels, log pixels or a logit.

    The tensor's scale and zero point, the channel's range and the stride are folded into one multiplication; the
    size's channels become the logarithm of half the size.
    """
    output = manifest.outputs[0]
    gain = np.array([[channel.gain for channel in head] for head in manifest.heads])
    offset = np.array([[channel.offset for channel in head] for head in manifest.heads])
    offset = offset - gain * output.scale * output.zero_point
    gain = gain * output.scale
    strides = np.array(manifest.strides, np.float64)[:, None]
    linear = [2, 3, *range(6, _CHANNELS)]
    gain[:, linear] *= strides
    offset[:, linear] *= strides
    offset[:, 4:6] += np.log(strides / 2)
    return gain.astype(np.float32), offset.astype(np.float32)


def _integer_floors(gain: Floats, offset: Floats, *, score: float) -> npt.NDArray[np.int8]:
    """Smallest integers, (strides, 2) int8, of the two logit channels that can still reach the score.

    score² = σ(class)·σ(objectness) ≥ t² needs σ ≥ t² / (the other's largest σ). A floor no integer reaches becomes
    127, and the exact comparison that follows decides.
    """
    steps, starts = gain[:, :2].astype(np.float64), offset[:, :2].astype(np.float64)
    largest = 1 / (1 + np.exp(-(127 * steps + starts)))
    needed = np.clip(score**2 / largest[:, ::-1], 1e-9, 1 - 1e-9)
    floors = np.ceil((np.log(needed / (1 - needed)) - starts) / steps - 1e-3)
    return np.clip(floors, -128, 127).astype(np.int8)


def suppress(detections: Detections, *, iou: float, limit: int) -> tuple[Detections, bool]:
    """Greedy non-maximum suppression.

    Args:
        detections: in any order; equal scores keep their order.
        iou: of two boxes that overlap more than this the weaker is dropped, 0..1.
        limit: no more than so many are kept.

    Returns:
        The boxes kept, best first, and whether the limit left any out.
    """
    order = np.argsort(-detections.scores, kind="stable")
    left, top, right, bottom = detections.xyxy[order].T
    area = (right - left) * (bottom - top)
    alive = np.arange(len(order))
    kept: list[int] = []
    while len(alive) and len(kept) < limit:
        best, rest = alive[0], alive[1:]
        kept.append(int(order[best]))
        width = np.minimum(right[rest], right[best]) - np.maximum(left[rest], left[best])
        height = np.minimum(bottom[rest], bottom[best]) - np.maximum(top[rest], top[best])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        alive = rest[shared <= iou * (area[rest] + area[best] - shared)]
    chosen = Detections(detections.scores[kept], detections.xyxy[kept], detections.landmarks[kept])
    return chosen, bool(len(alive))


class YuNetDetector:
    """Finds faces with a YuNet bundle; see `edge.detect.base.FaceDetector`."""

    def __init__(
        self,
        manifest: DetectManifest,
        network: Network,
        *,
        score: float = 0.6,
        nms: float = 0.3,
        max_faces: int = 32,
    ) -> None:
        """Prepares a detector.

        Args:
            manifest: of a verified bundle.
            network: its loaded model.
            score: faces below it are ignored, 0..1.
            nms: of two boxes whose IoU is above it the weaker is dropped, 0..1.
            max_faces: bound on the faces of a frame.
        """
        self._network = network
        self._decoder = CellDecoder(manifest, score=score)
        self._nms, self._max_faces = nms, max_faces
        self._size_wh = canvas_size_wh(manifest)
        # First row and column are the stem's padding. What the picture does not cover stays black.
        self._padded: Image = np.zeros(manifest.input.shape[1:], np.uint8)
        self._canvas = self._padded[1:, 1:]
        self._fitted_wh = (0, 0)
        self._letterbox: Letterbox = fit_letterbox(self._size_wh, self._size_wh)
        self._target = self._canvas

    def detect(self, frame: Frame) -> Faces:
        """All faces of a frame; see `edge.detect.base.FaceDetector.detect`."""
        self._place(frame)
        kept, bound_hit = self.search()
        return _to_frame(kept, self._letterbox, bound_hit=bound_hit) if len(kept.scores) else NO_FACES

    def search(self) -> tuple[Detections, bool]:
        """The bare work on the picture that lies on the canvas: set, invoke, decode, suppress.

        Returns:
            The faces in canvas pixels, best first, and whether ``max_faces`` left any out.
        """
        (cells,) = self._network.run(self._padded)
        detections = self._decoder.decode(cells[0])
        return suppress(detections, iou=self._nms, limit=self._max_faces)

    def close(self) -> None:
        """Frees the model."""
        self._network.close()

    def _place(self, frame: Frame) -> None:
        """Writes the picture onto the canvas, from the camera's own smaller stream where that is large enough."""
        if frame.size_wh != self._fitted_wh:
            self._fitted_wh = frame.size_wh
            self._letterbox = fit_letterbox(frame.size_wh, self._size_wh)
            self._canvas[:] = 0
            width, height = self._letterbox.size_wh
            self._target = self._canvas[:height, :width]
        lores = frame.lores
        is_enough = lores is not None and all(np.greater_equal(lores.shape[:2], self._target.shape[:2]))
        resize(lores if lores is not None and is_enough else frame.image, self._letterbox.size_wh, out=self._target)


def _to_frame(detections: Detections, letterbox: Letterbox, *, bound_hit: bool) -> Faces:
    """Canvas pixels to full-frame pixels."""
    scale = np.array([letterbox.scale_x, letterbox.scale_y], np.float32)
    corners = detections.xyxy.reshape(-1, 2, 2) / scale
    corners[:, 1] -= corners[:, 0]
    return Faces(
        xywh=corners.reshape(-1, 4),
        scores=detections.scores,
        landmarks=detections.landmarks / scale,
        bound_hit=bound_hit,
    )


def make_detector(
    config: DetectConfig, *, score: float, manifest: DetectManifest | None, network: Network | None
) -> YuNetDetector:
    """Makes the detector that `edge.detect.DETECTORS` calls ``yunet``; see `edge.detect.open_detector`."""
    decode_options(config.options, NoOptions, key="detect.options")
    assert manifest is not None
    assert network is not None
    return YuNetDetector(manifest, network, score=score, nms=config.nms, max_faces=config.max_faces)
