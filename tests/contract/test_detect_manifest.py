"""A detector's manifest: what does not fit together is refused by key."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from edge.bundles.locate import find_bundle
from edge.contract.manifest import decode_manifest
from edge.errors import BundleError

SHIPPED: dict[str, Any] = json.loads((find_bundle("yunet-320x192") / "manifest.json").read_text())


def _fewer_strides(manifest: dict[str, Any]) -> None:
    manifest["strides"] = manifest["strides"][:-1]


def _none_at_all(manifest: dict[str, Any]) -> None:
    manifest["strides"], manifest["heads"] = [], []


def _other_stride(manifest: dict[str, Any]) -> None:
    manifest["strides"][0] = 7


def _fewer_cells(manifest: dict[str, Any]) -> None:
    manifest["outputs"][0]["shape"][1] -= 1


def _short_head(manifest: dict[str, Any]) -> None:
    manifest["heads"][1].pop()


def _no_gain(manifest: dict[str, Any]) -> None:
    manifest["heads"][2][3]["gain"] = 0.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_fewer_strides, "strides, heads: 2 and 3"),
        (_none_at_all, "strides, heads: 0 and 0"),
        (_other_stride, "multiple of the strides"),
        (_fewer_cells, r"outputs\[0\].shape"),
        (_short_head, r"heads\[1\]: 15 channels"),
        (_no_gain, r"heads\[2\]"),
    ],
)
def test_a_detector_whose_parts_do_not_fit_is_refused(change: Callable[[dict[str, Any]], None], named: str) -> None:
    manifest = copy.deepcopy(SHIPPED)
    decode_manifest(json.dumps(manifest).encode(), file="manifest.json")
    change(manifest)
    with pytest.raises(BundleError, match=named):
        decode_manifest(json.dumps(manifest).encode(), file="manifest.json")
