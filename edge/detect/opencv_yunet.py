"""YuNet in float by OpenCV's ``FaceDetectorYN``, with an ONNX file of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta

from edge.config.loader import decode_options
from edge.config.schema import DetectConfig
from edge.contract.manifest import DetectManifest
from edge.contract.preprocess import fit_letterbox, resize
from edge.detect.base import Network
from edge.errors import ConfigError, InferenceError
from edge.records import NO_FACES, Faces, Floats, Frame, Image

_TOP_K = 5000


class OpenCvYuNetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the detector ``opencv_yunet``."""

    onnx: Annotated[str, Meta(description="YuNet's ONNX file: face_detection_yunet_2023mar.onnx")]
    width: Annotated[int, Meta(ge=32, le=4096, description="width in pixels of the picture that is searched")] = 640
    height: Annotated[int, Meta(ge=32, le=4096, description="its height in pixels")] = 480


class OpenCvYuNetDetector:
    """Finds faces with OpenCV; see `edge.detect.base.FaceDetector`."""

    def __init__(
        self,
        onnx: Path,
        *,
        size_wh: tuple[int, int] = (640, 480),
        score: float = 0.6,
        nms: float = 0.3,
        max_faces: int = 32,
    ) -> None:
        """Loads a model.

        Args:
            onnx: YuNet's ONNX file, ``face_detection_yunet_2023mar.onnx``.
            size_wh: width and height in pixels of the canvas that frames are fitted into.
            score: faces below it are ignored, 0..1.
            nms: of two boxes whose IoU is above it the weaker is dropped, 0..1.
            max_faces: bound on the faces of a frame.

        Raises:
            ConfigError: there is no such file.
            InferenceError: OpenCV refuses the file.
        """
        if not onnx.is_file():
            raise ConfigError("detect.options.onnx", f"{str(onnx)!r} is not a file; YuNet's ONNX file is needed")
        try:
            self._detector = cv2.FaceDetectorYN.create(str(onnx), "", size_wh, score, nms, _TOP_K)
        except cv2.error as error:
            raise InferenceError(f"{onnx}: OpenCV refuses the model: {' '.join(str(error).split())}") from None
        self._max_faces = max_faces
        self._canvas: Image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)

    def detect(self, frame: Frame) -> Faces:
        """All faces of a frame; see `edge.detect.base.FaceDetector.detect`."""
        letterbox = fit_letterbox(frame.size_wh, (self._canvas.shape[1], self._canvas.shape[0]))
        width, height = letterbox.size_wh
        self._canvas[height:], self._canvas[:, width:] = 0, 0
        resize(frame.image, letterbox.size_wh, out=self._canvas[:height, :width])
        found = self.search()
        if not len(found):
            return NO_FACES
        rows, bound_hit = found[: self._max_faces], len(found) > self._max_faces
        scale = np.array([letterbox.scale_x, letterbox.scale_y], np.float32)
        points = rows[:, :14].reshape(-1, 7, 2) / scale
        return Faces(
            xywh=points[:, :2].reshape(-1, 4), scores=rows[:, 14], landmarks=points[:, 2:], bound_hit=bound_hit
        )

    def search(self) -> Floats:
        """The bare work on the canvas.

        Returns:
            (n, 15) float32, best first: x, y, width, height, five landmarks (x, y), score, in canvas pixels.
        """
        found = self._detector.detect(self._canvas)[1]
        return np.zeros((0, 15), np.float32) if found is None else np.asarray(found, np.float32)

    def close(self) -> None:
        """Frees the model."""
        del self._detector


def make_detector(
    config: DetectConfig, *, score: float, manifest: DetectManifest | None, network: Network | None
) -> OpenCvYuNetDetector:
    """Makes the detector that `edge.detect.DETECTORS` calls ``opencv_yunet``; see `edge.detect.open_detector`."""
    options = decode_options(config.options, OpenCvYuNetOptions, key="detect.options")
    return OpenCvYuNetDetector(
        Path(options.onnx).expanduser(),
        size_wh=(options.width, options.height),
        score=score,
        nms=config.nms,
        max_faces=config.max_faces,
    )
