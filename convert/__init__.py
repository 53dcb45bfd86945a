"""Quantizes models to int8 TFLite bundles, with a verdict on their accuracy.

The public names are imported when they are first used: ``import convert`` loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.registry import lazy_names

if TYPE_CHECKING:
    from convert.classifier.api import Result as Result
    from convert.classifier.api import quantize_classifier as quantize_classifier
    from convert.classifier.options import QuantizeData as QuantizeData
    from convert.classifier.options import QuantizeOptions as QuantizeOptions
    from convert.classifier.options import VerifyOptions as VerifyOptions
    from convert.tflite.inspect import inspect_model as inspect_model
    from convert.verify import verify_bundle as verify_bundle
    from convert.yunet.api import DetectorOptions as DetectorOptions
    from convert.yunet.api import DetectorResult as DetectorResult
    from convert.yunet.api import quantize_detector as quantize_detector

_MODULES = {
    "DetectorOptions": "convert.yunet.api",
    "DetectorResult": "convert.yunet.api",
    "QuantizeData": "convert.classifier.options",
    "QuantizeOptions": "convert.classifier.options",
    "Result": "convert.classifier.api",
    "VerifyOptions": "convert.classifier.options",
    "inspect_model": "convert.tflite.inspect",
    "quantize_classifier": "convert.classifier.api",
    "quantize_detector": "convert.yunet.api",
    "verify_bundle": "convert.verify",
}
__getattr__ = lazy_names(__name__, _MODULES)
