"""``mien-convert``: quantize a classifier with a verdict, verify a bundle, look into a model file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.errors import MienError, UsageError

app = typer.Typer(
    name="mien-convert",
    help="Makes int8 bundles of face classifiers and says whether they still are the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_DEBUG = False

Calibrate = Annotated[list[str], typer.Option("--calibrate", help="labelled faces for the ranges: [FORM:]PATH[@KEY=VALUE,…]")]
Evaluate = Annotated[list[str], typer.Option("--evaluate", help="other labelled faces for the verdict")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="write the report here as well")]
Scale = Annotated[str | None, typer.Option(help="the model expects (pixel - MEAN) * SCALE; a number or 1/255")]
Mean = Annotated[str | None, typer.Option(help="one value, or one a channel: 123.7,116.3,103.5 [default: 0]")]
Color = Annotated[str | None, typer.Option(help="rgb or bgr, for a model of three channels")]
Head = Annotated[str, typer.Option(help="auto, logits or softmax: what the model puts out")]
MaxDrop = Annotated[float, typer.Option(help="points of accuracy that may be lost")]
MaxClassDrop = Annotated[float, typer.Option(help="points of recall that a class of 200 pictures or more may lose")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option(help="show tracebacks")] = False) -> None:
    global _DEBUG
    _DEBUG = debug


@app.command("quantize")
def quantize_command(
    model: Annotated[Path, typer.Argument(help=".keras, .h5, .tflite (float), .onnx or a SavedModel folder")],
    calibrate: Calibrate,
    evaluate: Evaluate,
    out: Annotated[Path, typer.Option(help="the bundle's folder")],
    labels: Annotated[str | None, typer.Option(help="of the outputs in order: a,b,c, or a file with one a line")] = None,
    crop: Annotated[str | None, typer.Option(help="none, square[:MARGIN], or a JSON file with a crop")] = None,
    version: Annotated[str | None, typer.Option(help="of the bundle: 1.0.0")] = None,
    licence: Annotated[str | None, typer.Option(help="of the weights")] = None,
    name: Annotated[str | None, typer.Option(help="of the bundle [default: the folder's name]")] = None,
    notice: Annotated[list[str] | None, typer.Option(help="line that must go with the weights; repeatable")] = None,
    notes: Annotated[str, typer.Option(help="for the model card")] = "",
    trained_from: Annotated[Path | None, typer.Option(help="JSON: git, recipe, datasets [{name, count}]")] = None,
    scheme: Annotated[str, typer.Option(help="int8, int16x8, float16 or dynamic")] = "int8",
    io: Annotated[str | None, typer.Option(help="int8, uint8 or float32 [default: the scheme's]")] = None,
    scale: Scale = None,
    mean: Mean = None,
    color: Color = None,
    head: Head = "auto",
    max_drop: MaxDrop = 1.0,
    max_class_drop: MaxClassDrop = 5.0,
    repair: Annotated[bool, typer.Option("--repair", help="when the gate fails, find what brings the model back")] = False,
    qat: Annotated[int, typer.Option(help="epochs of quantization-aware fine-tuning", min=0)] = 0,
    edgetpu: Annotated[bool, typer.Option("--edgetpu", help="say what an Edge TPU takes; compile where possible")] = False,
    calibration_count: Annotated[int, typer.Option(help="pictures for the ranges", min=1)] = 512,
    seed: Annotated[int, typer.Option(help="of the draw of calibration pictures")] = 0,
    json: JsonFile = None,
    force: Annotated[bool, typer.Option("--force", help="replace a bundle; write a failed one, marked as such")] = False,
) -> None:
    """Quantizes MODEL, compares it with the float model on the same pictures and writes a bundle."""
    from convert.command import QuantizeArguments, run_quantize

    arguments = QuantizeArguments(
        model=model, calibrate=tuple(calibrate), evaluate=tuple(evaluate), out=out, labels=labels, crop=crop,
        version=version, licence=licence, name=name, notices=tuple(notice or ()), notes=notes, trained_from=trained_from,
        scheme=scheme, io=io, scale=scale, mean=mean, color=color, head=head, max_drop=max_drop,
        max_class_drop=max_class_drop, repair=repair, qat=qat, edgetpu=edgetpu, calibration_count=calibration_count,
        seed=seed, json=json, force=force,
    )  # fmt: skip
    raise typer.Exit(run_quantize(arguments))


@app.command("verify")
def verify_command(
    bundle: Annotated[str, typer.Argument(help="a bundle's folder, or the name of an installed or shipped one")],
    reference: Annotated[Path, typer.Option(help="the float model that it was made of")],
    data: Annotated[list[str], typer.Option(help="labelled faces")],
    scale: Scale = None,
    mean: Mean = None,
    head: Head = "auto",
    max_drop: MaxDrop = 1.0,
    max_class_drop: MaxClassDrop = 5.0,
    report: Annotated[Path | None, typer.Option(help="folder for report.html")] = None,
    json: JsonFile = None,
) -> None:
    """Compares a bundle with the float model that it was made of, through the code that runs on the device."""
    from convert.command import VerifyArguments, run_verify

    arguments = VerifyArguments(
        bundle=bundle, reference=reference, data=tuple(data), scale=scale, mean=mean, head=head, max_drop=max_drop,
        max_class_drop=max_class_drop, report=report, json=json,
    )  # fmt: skip
    raise typer.Exit(run_verify(arguments))


@app.command("inspect")
def inspect_command(
    model: Annotated[Path, typer.Argument(help="any TFLite file, or a bundle's folder")],
    json: JsonFile = None,
) -> None:
    """Shows tensors, operators, multiplications, delegates and metadata of a TFLite file."""
    from convert.command import run_inspect

    run_inspect(model, json=json)


def _add_detector() -> None:
    """The face detector has a command of its own; its module needs TensorFlow and is imported when it is called."""

    @app.command("detector", context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
                 add_help_option=False)  # fmt: skip
    def detector(context: typer.Context) -> None:
        """Rebuilds the YuNet face detector in int8 and writes its bundles."""
        from convert.detector import detector_command

        typer.run  # noqa: B018
        own = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        own.command()(detector_command)
        own(context.args, prog_name="mien-convert detector", standalone_mode=False)


_add_detector()


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; an error is one line, ``mien-convert: error: …``, and its documented exit code."""
    try:
        code: Any = app(arguments if arguments is not None else sys.argv[1:], standalone_mode=False)
    except MienError as error:
        if _DEBUG:
            raise
        sys.exit(_fail(str(error), error.exit_code))
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except Exception as error:
        usage = _usage_message(error)
        if usage is None:
            raise
        sys.exit(_fail(usage, UsageError.exit_code))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    print(f"mien-convert: error: {' '.join(message.split())}", file=sys.stderr)
    return code
