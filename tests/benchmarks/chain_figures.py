#!/usr/bin/env python3
"""Does the whole chain score what the bare crops score?

    make_scenes.py SCENES --count 1100                                   (the shared tool; pictures with known faces)
    mien replay SCENES --out FOUND.jsonl [--set detect.bundle=yunet-1280x736]
    python tests/benchmarks/chain_figures.py --scenes SCENES --found FOUND.jsonl --data fer2013.npz --bundle NAME

A face counts as found when a box's centre lies within 0.4 of the pasted crop's side from the crop's centre. On the
faces found, the class with the highest score is compared with the label, once as the chain saw the face and once on
the data set's own crop: the difference is paired, its interval 95 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from convert.datasets import read_dataset
from convert.evaluation.classification import paired_difference
from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_emotion_bundle
from edge.infer import load_model
from edge.infer.classifier import EmotionClassifier

FOUND_WITHIN = 0.4


def nearest(face: dict[str, Any], boxes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The found box that belongs to a pasted crop, or None."""
    x, y, side, _ = face["xywh"]
    centre = np.array([x + side / 2, y + side / 2])
    away = [np.linalg.norm(np.array(b["xywh"][:2]) + np.array(b["xywh"][2:]) / 2 - centre) for b in boxes]
    best = int(np.argmin(away)) if away else -1
    return boxes[best] if away and away[best] < FOUND_WITHIN * side else None


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--data", required=True, help="FER2013 in any form that mien-train reads")
    parser.add_argument("--bundle", required=True, help="the one that FOUND was made with")
    options = parser.parse_args()
    scenes = {scene["file"]: scene["faces"] for scene in json.loads((options.scenes / "scenes.json").read_text())}
    bundle = load_emotion_bundle(find_bundle(options.bundle))
    labels = bundle.manifest.labels
    total, uncertain, chain, rows, truth = 0, 0, [], [], []
    for line in options.found.read_text().splitlines():
        row = json.loads(line)
        for face in scenes[Path(row["source"]).name]:
            total += 1
            box = nearest(face, row["faces"])
            if box is not None:
                chain.append(max(box["scores"], key=box["scores"].get) == labels[face["label"]])
                uncertain += box["emotion"] == "uncertain"
                rows.append(face["index"])
                truth.append(face["label"])
    images = np.asarray(read_dataset(options.data).images)[np.array(rows)].reshape(-1, 48, 48, 1)
    scores = EmotionClassifier(bundle.manifest, load_model(bundle).interpreter).classify(images)
    bare = scores.argmax(1) == np.array(truth)
    difference = paired_difference(bare, np.array(chain))
    shares = f"{len(rows) / total:.2%} found, {uncertain / len(rows):.1%} of them uncertain"
    print(f"{bundle.manifest.full_name}: {total} faces, {shares}")
    print(f"accuracy on those: chain {np.mean(chain):.2%}, bare crops {bare.mean():.2%}")
    low, high = 100 * difference.low, 100 * difference.high
    print(f"chain less bare: {100 * difference.value:+.2f} points (95 %: {low:+.2f}..{high:+.2f})")


if __name__ == "__main__":
    main()
