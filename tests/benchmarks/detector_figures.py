"""The figures of the int8 face detector: accuracy against boxes, agreement with the float network, speed.

    python tests/benchmarks/detector_figures.py --onnx face_detection_yunet_2023mar.onnx \
        --data ../shared/data/faces_boxes --score-tool ../shared/tools/score_boxes.py [--bundle yunet-640x480]

The float network is OpenCV's ``FaceDetectorYN`` on the same letterboxed input; both run on one thread. Nothing else
should run on the machine while it measures speed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from edge.bundles.locate import find_bundle
from edge.contract.bundle import Bundle, load_detect_bundle
from edge.contract.manifest import DetectManifest
from edge.detect.base import FaceDetector
from edge.detect.opencv_yunet import OpenCvYuNetDetector
from edge.detect.yunet import YuNetDetector, canvas_size_wh
from edge.infer import load_model, replay_golden
from edge.infer.litert import import_runtime
from edge.records import Faces, Frame

DEFAULT_SCORE = 0.6
SMALLEST_PX = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with boxes.json and images/")
    parser.add_argument("--score-tool", type=Path, required=True, help="score_boxes.py")
    parser.add_argument("--bundle", default="yunet-640x480")
    parser.add_argument("--frames", type=int, default=200, help="timed frames")
    parser.add_argument("--skip-speed", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = load_detect_bundle(find_bundle(args.bundle))
    size_wh = canvas_size_wh(bundle.manifest)
    model = load_model(bundle)
    quantized = YuNetDetector(bundle.manifest, model.interpreter, score=0.02, max_faces=500)
    floating = OpenCvYuNetDetector(args.onnx, size_wh=size_wh, score=0.02, max_faces=500)
    machine = f"{platform.machine()}, OpenCV {cv2.__version__}, ai-edge-litert {version('ai-edge-litert')}"
    print(f"{bundle.manifest.full_name}, {machine}, one thread")
    print(f"{model.interpreter.delegated_nodes} of {model.interpreter.total_nodes} nodes delegated; {model.parity}")
    print(f"without a delegate: {_parity_without_delegate(bundle)}")
    truth = {row["file"]: row["faces"] for row in json.loads((args.data / "boxes.json").read_text())["images"]}
    images = {name: cv2.imread(str(args.data / "images" / name)) for name in truth}
    found = {name: _find_all(detector, images) for name, detector in (("int8", quantized), ("float", floating))}
    for name, faces in found.items():
        print(f"\n{name}\n{_average_precision(faces, args)}", end="")
        print(_precision_recall(faces, truth))
    print(f"\n{_agreement(found['float'], found['int8'])}")
    if not args.skip_speed:
        fast = YuNetDetector(bundle.manifest, load_model(bundle).interpreter)
        slow = OpenCvYuNetDetector(args.onnx, size_wh=size_wh)
        print(_speed(fast, slow, list(images.values()), size_wh=size_wh, count=args.frames))


def _find_all(detector: FaceDetector, images: dict[str, np.ndarray]) -> dict[str, Faces]:
    return {name: detector.detect(Frame(image, 0, 0, name)) for name, image in images.items()}


def _parity_without_delegate(bundle: Bundle[DetectManifest]) -> str:
    """How far TFLite's own kernels are from the golden samples, which XNNPACK made."""
    runtime = import_runtime()
    plain = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = runtime.Interpreter(model_content=bundle.model, num_threads=1, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()

    class Plain:
        def run(self, pixels):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], (pixels ^ 0x80).view(np.int8)[None])
            interpreter.invoke()
            return [interpreter.get_tensor(interpreter.get_output_details()[0]["index"])]

    return str(replay_golden(Plain(), bundle.golden, max_steps=bundle.manifest.golden.max_steps_other))


def _average_precision(faces: dict[str, Faces], args: argparse.Namespace) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for name, found in faces.items():
            rows = zip(found.xywh.tolist(), found.scores.tolist(), strict=True)
            row = {"source": name, "faces": [{"xywh": box, "score": score} for box, score in rows]}
            file.write(json.dumps(row) + "\n")
        file.flush()
        command = [sys.executable, str(args.score_tool), str(args.data / "boxes.json"), file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairwise intersection over union (len(a), len(b)) of xywh boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    return shared / (a[:, 2:].prod(axis=1)[:, None] + b[:, 2:].prod(axis=1)[None] - shared)


def _precision_recall(faces: dict[str, Faces], truth: dict[str, list]) -> str:
    """At the default score; faces below `SMALLEST_PX` count neither way, found or missed."""
    hits = false = total = 0
    for name, found in faces.items():
        true = np.array([face["xywh"] for face in truth[name]], np.float32).reshape(-1, 4)
        is_large = true[:, 2:].min(axis=1, initial=np.inf) >= SMALLEST_PX
        total += int(is_large.sum())
        boxes = found.xywh[found.scores >= DEFAULT_SCORE]
        overlap = _iou(boxes, true)
        for row, box in zip(overlap, boxes, strict=True):
            best = int(row.argmax()) if row.size else -1
            if best >= 0 and row[best] >= 0.5:
                hits += int(is_large[best])
                overlap[:, best] = 0
            elif box[2:].min() >= SMALLEST_PX:
                false += 1
    return (
        f"at score {DEFAULT_SCORE}, faces >= {SMALLEST_PX:g} px: precision {hits / max(hits + false, 1):.4f}, "
        f"recall {hits / total:.4f}, {false / len(faces):.3f} false faces a picture"
    )


def _agreement(floating: dict[str, Faces], quantized: dict[str, Faces]) -> str:
    lines = []
    for floor in (DEFAULT_SCORE, DEFAULT_SCORE - 0.05):
        total = found = 0
        ious, landmark_errors = [], []
        for name, wanted in floating.items():
            mine, keep = quantized[name], quantized[name].scores >= floor
            sure = wanted.scores >= DEFAULT_SCORE
            total += int(sure.sum())
            if not sure.any() or not keep.any():
                continue
            overlap = _iou(wanted.xywh[sure], mine.xywh[keep])
            best = overlap.max(axis=1)
            found += int((best >= 0.7).sum())
            near = best >= 0.5
            ious += best[near].tolist()
            pairs = mine.landmarks[keep][overlap.argmax(axis=1)[near]] - wanted.landmarks[sure][near]
            landmark_errors += (np.linalg.norm(pairs, axis=2).mean(axis=1) / wanted.xywh[sure][near, 2]).tolist()
        lines.append(
            f"int8 at score >= {floor:.2f}: {found} of float's {total} faces (score >= {DEFAULT_SCORE}) at IoU >= 0.7: "
            f"{found / total:.4f}; mean IoU {np.mean(ious):.4f}; landmarks {np.mean(landmark_errors):.4f} of face width"
        )
    return "\n".join(lines)


def _speed(
    fast: FaceDetector, slow: FaceDetector, images: list[np.ndarray], *, size_wh: tuple[int, int], count: int
) -> str:
    """Times of `detect`, letterbox to faces, taking turns frame by frame; the 5th percentile is the quiet machine's."""
    lines = []
    for label, wanted_wh in (("frames of the canvas' size", size_wh), ("frames of 1280x720", (1280, 720))):
        frames = [Frame(cv2.resize(image, wanted_wh), 0, 0, "") for image in images[:20]]
        times: dict[FaceDetector, list[float]] = {fast: [], slow: []}
        for index in range(count):
            for detector in (fast, slow):
                start = time.perf_counter()
                detector.detect(frames[index % len(frames)])
                times[detector].append(1e3 * (time.perf_counter() - start))
        for share in (50, 5):
            mine, theirs = (float(np.percentile(times[detector][10:], share)) for detector in (fast, slow))
            quantile = "median" if share == 50 else f"{share}th percentile"
            ratio = f"int8 {mine:.2f} ms, OpenCV float {theirs:.2f} ms: {theirs / mine:.2f} x"
            lines.append(f"{label}, {quantile}: {ratio}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
