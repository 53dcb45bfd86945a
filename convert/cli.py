"""``mien-convert``: quantize a classifier with a verdict, verify a bundle, look into a model file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from edge.cli_app import make_app, run_app

app = make_app(
    "mien-convert", help_text="Makes int8 bundles of face classifiers and says whether they still are the model."
)

Calibrate = Annotated[
    list[str], typer.Option("--calibrate", help="labelled faces for the ranges: \\[FORM:]PATH\\[@KEY=V,…]")
]
Evaluate = Annotated[list[str], typer.Option("--evaluate", help="other labelled faces for the verdict")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="write the report here as well")]
Scale = Annotated[
    str | None,
    typer.Option(help="the model expects (pixel - MEAN) * SCALE; a number, 1/255, or one a channel with commas"),
]
Mean = Annotated[str | None, typer.Option(help="one value, or one a channel: 123.7,116.3,103.5 \\[default: 0]")]
Color = Annotated[str, typer.Option(help="rgb or bgr, for a model of three channels")]
HeadKind = Annotated[str, typer.Option(help="auto, logits or softmax: what the model puts out")]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="run code that lies in the model (Lambda); only of people you trust"),
]
Signature = Annotated[str | None, typer.Option(help="of a SavedModel \\[default: serving_default, or the only one]")]
MaxDrop = Annotated[float, typer.Option(help="points of accuracy that may be lost")]
MaxClassDrop = Annotated[float, typer.Option(help="points of recall that a class of 200 pictures or more may lose")]


@app.command("quantize")
def quantize_command(
    model: Annotated[Path, typer.Argument(help=".keras, .h5, .tflite (float), .onnx or a SavedModel folder")],
    calibrate: Calibrate,
    evaluate: Evaluate,
    out: Annotated[Path, typer.Option(help="the bundle's folder")],
    labels: Annotated[
        str | None, typer.Option(help="of the outputs in order: a,b,c, or a file with one a line")
    ] = None,
    crop: Annotated[str | None, typer.Option(help="none, square\\[:MARGIN], or a JSON file with a crop")] = None,
    version: Annotated[str | None, typer.Option(help="of the bundle: 1.0.0")] = None,
    licence: Annotated[str | None, typer.Option(help="of the weights")] = None,
    name: Annotated[str | None, typer.Option(help="of the bundle \\[default: the folder's name]")] = None,
    notice: Annotated[list[str] | None, typer.Option(help="line that must go with the weights; repeatable")] = None,
    notes: Annotated[str, typer.Option(help="for the model card")] = "",
    trained_from: Annotated[Path | None, typer.Option(help="JSON: git, recipe, datasets [{name, count}]")] = None,
    git: Annotated[str | None, typer.Option(help="commit of the code that trained the weights")] = None,
    copies: Annotated[
        Path | None, typer.Option(help="list of test pictures with a copy in training, by mien-train copies")
    ] = None,
    scheme: Annotated[str, typer.Option(help="int8, int16x8, float16 or dynamic")] = "int8",
    io: Annotated[str | None, typer.Option(help="int8, uint8 or float32 \\[default: the scheme's]")] = None,
    scale: Scale = None,
    mean: Mean = None,
    color: Color = "grey",
    head: HeadKind = "auto",
    signature: Signature = None,
    trust_code: TrustCode = False,
    max_drop: MaxDrop = 1.0,
    max_class_drop: MaxClassDrop = 5.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="when the gate fails, find what brings the model back")
    ] = False,
    qat: Annotated[int, typer.Option(help="epochs of quantization-aware fine-tuning", min=0)] = 0,
    edgetpu: Annotated[
        bool, typer.Option("--edgetpu", help="say what an Edge TPU takes; compile where possible")
    ] = False,
    calibration_count: Annotated[int, typer.Option(help="pictures for the ranges", min=1)] = 512,
    seed: Annotated[int, typer.Option(help="of the draw of calibration pictures")] = 0,
    expect_accuracy: Annotated[
        float | None, typer.Option(help="of the float model as you know it, in percent", min=0, max=100)
    ] = None,
    json: JsonFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="replace a bundle; write a failed one, marked as such")
    ] = False,
) -> None:
    """Quantizes MODEL, compares it with the float model on the same pictures and writes a bundle."""
    from convert import arguments
    from convert.classifier.load import Form, Head
    from convert.classifier.options import QuantizeOptions
    from convert.classifier.quantize import Io, Scheme
    from convert.commands import run_quantize
    from convert.datasets.dataset import Colour
    from convert.evaluation.verdict import Limits

    options = QuantizeOptions(
        name=name or out.resolve().name,
        version=arguments.demand(version, "--version", "a version such as 1.0.0"),
        licence=arguments.demand(licence, "--licence", "the licence of the weights"),
        labels=arguments.parse_labels(labels),
        margin=arguments.parse_crop(crop),
        colour=arguments.parse_choice(color, "--color", Colour),
        arithmetic=arguments.parse_arithmetic(scale, mean),
        head=arguments.parse_choice(head, "--head", Head),
        form=Form(trust_code=trust_code, signature=signature),
        notices=tuple(notice or ()),
        notes=notes,
        trained_from=arguments.read_origin(trained_from, git=git, model=model),
        scheme=arguments.parse_choice(scheme, "--scheme", Scheme),
        io=arguments.parse_choice(io, "--io", Io) if io else None,
        limits=Limits(max_drop, max_class_drop),
        repair=repair,
        qat_epochs=qat,
        edgetpu=edgetpu,
        copies_sha256=arguments.hash_list(copies),
        calibration_count=calibration_count,
        seed=seed,
        expected_accuracy=None if expect_accuracy is None else expect_accuracy / 100,
    )
    read_data = functools.partial(arguments.read_data, calibrate, evaluate)
    raise typer.Exit(run_quantize(model, read_data, options, out=out, json=json, force=force))


@app.command("verify")
def verify_command(
    bundle: Annotated[str, typer.Argument(help="a bundle's folder, or the name of an installed or shipped one")],
    reference: Annotated[Path, typer.Option(help="the float model that it was made of")],
    data: Annotated[
        list[str], typer.Option(help="labelled faces; for a detector a folder with boxes.json and images/")
    ],
    scale: Scale = None,
    mean: Mean = None,
    head: HeadKind = "auto",
    signature: Signature = None,
    trust_code: TrustCode = False,
    max_drop: MaxDrop = 1.0,
    max_class_drop: MaxClassDrop = 5.0,
    report: Annotated[Path | None, typer.Option(help="folder for report.html")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="of a detector: write verdict, metrics, report and card into the bundle")
    ] = False,
    notes: Annotated[str, typer.Option(help="with --record: for the model card")] = "",
    json: JsonFile = None,
) -> None:
    """Compares a bundle with the float model that it was made of, through the code that runs on the device."""
    from convert.arguments import parse_arithmetic, parse_choice
    from convert.classifier.load import Form, Head
    from convert.classifier.options import VerifyOptions
    from convert.commands import run_verify
    from convert.evaluation.verdict import Limits

    options = VerifyOptions(
        arithmetic=parse_arithmetic(scale, mean),
        head=parse_choice(head, "--head", Head),
        form=Form(trust_code=trust_code, signature=signature),
        limits=Limits(max_drop, max_class_drop),
        notes=notes,
    )
    raise typer.Exit(run_verify(bundle, reference, tuple(data), options, report=report, record=record, json=json))


@app.command("inspect")
def inspect_command(
    model: Annotated[Path, typer.Argument(help="any TFLite file, or a bundle's folder")],
    json: JsonFile = None,
) -> None:
    """Shows tensors, operators, multiplications, delegates and metadata of a TFLite file."""
    from convert.commands import run_inspect

    run_inspect(model, json=json)


@app.command("detector")
def detector_command(
    onnx: Annotated[Path, typer.Option(help="face_detection_yunet_2023mar.onnx, or a re-export of the same network")],
    calibrate: Annotated[Path, typer.Option(help="folder of pictures and clips that show faces")],
    evaluate: Annotated[Path, typer.Option(help="folder with boxes.json and images/, for the verdict")],
    out: Annotated[Path, typer.Option(help="folder that the bundles are written into")],
    size: Annotated[
        list[str] | None,
        typer.Option(help="WIDTHxHEIGHT, multiples of 32; repeat for more \\[default: the shipped ones]"),
    ] = None,
    max_drop: Annotated[float, typer.Option(help="points of average precision that may be lost")] = 1.0,
    notes: Annotated[str, typer.Option(help="for the model card")] = "",
    json: JsonFile = None,
    force: Annotated[bool, typer.Option("--force", help="replace bundles; write failed ones, marked as such")] = False,
) -> None:
    """Quantizes the YuNet face detector, compares it with the float network and writes its bundles."""
    from convert.arguments import parse_size
    from convert.commands import run_detector
    from convert.yunet.api import SIZES_WH, DetectorOptions

    sizes_wh = tuple(map(parse_size, size)) if size else SIZES_WH
    options = DetectorOptions(sizes_wh=sizes_wh, max_drop=max_drop, notes=notes)
    raise typer.Exit(run_detector(onnx, calibrate, evaluate, options, out=out, json=json, force=force))


def main() -> None:
    """Entry point of ``mien-convert``."""
    run_app(app)
