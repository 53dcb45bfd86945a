"""The command ``mien``. Arguments and printing only; the work is done by the modules it calls."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from edge.cli_app import make_app, run_app
from edge.errors import EXIT_CLEAN, EXIT_RUNTIME, UsageError, config_context

if TYPE_CHECKING:
    from edge.config.schema import Config

app = make_app(
    "mien",
    help_text="Find every face in front of a camera, read its expression on the device and publish it over MQTT.",
)
config_app = typer.Typer(help="Check a configuration, or print its schema or an example.", no_args_is_help=True)
bundle_app = typer.Typer(help="Show, verify, install and sign model bundles.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(bundle_app, name="bundle")

IMPLIED_RENDER = "(implied)"
"""Value of ``--render`` where none is given; `edge.commands.replay` makes a name of the source's."""
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="Configuration file (TOML).")]
OptionalConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (TOML).")]
LoadLibrary = Annotated[
    bool, typer.Option("--load-library", help="Load the delegate's library that the configuration names: runs it.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key of the configuration.", metavar="KEY=VALUE")
]


@app.command(epilog="Examples: mien run --config mien.toml; mien run --config mien.toml --source rtsp://camera/stream1")
def run(
    config: ConfigFile,
    source: Annotated[str | None, typer.Option(help="Read this camera or file instead of the configuration's.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Take down what is seen in a new file: numbers, no pixels.", metavar="FILE")
    ] = None,
) -> None:
    """Run the daemon: camera in, events out, until SIGTERM."""
    from edge.config.loader import load_config
    from edge.service.daemon import run_daemon

    overrides = {"camera.source": source} if source is not None else None
    read = functools.partial(load_config, config, overrides=overrides)
    raise typer.Exit(run_daemon(read(), file=str(config), max_frames=max_frames, trace=trace, reread=read))


@app.command(epilog="Example: mien doctor --config mien.toml")
def doctor(
    config: OptionalConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    load_library: LoadLibrary = False,
) -> None:
    """Check this machine; every problem comes with its fix. Nothing is written or sent."""
    from edge.commands.doctor.examine import examine, show_report

    report = examine(config, loads_library=load_library)
    show_report(report, as_json=as_json, console=out)
    raise typer.Exit(EXIT_CLEAN if report.healthy else EXIT_RUNTIME)


@app.command("ha-preview")
def ha_preview(
    config: OptionalConfigFile = None,
) -> None:
    """Print the discovery message for Home Assistant without sending it."""
    from edge.commands.ha_preview import show_discovery
    from edge.config.loader import load_config
    from edge.config.schema import Config

    show_discovery(load_config(config) if config else Config(), file=config, console=out)


@app.command(epilog="Example: mien example notice > notice.html")
def example(
    name: Annotated[str, typer.Argument(help="Which one; an unknown name lists them.", metavar="NAME")],
) -> None:
    """Print a file for other programs (Prometheus, Grafana, Node-RED, …), or a notice to hang up."""
    from edge.commands.example import read_example

    print(read_example(name), end="")


@app.command(epilog="Example: mien forget --config mien.toml --camera OLD")
def forget(
    config: OptionalConfigFile = None,
    camera: Annotated[
        str | None, typer.Option(help="Forget this former name; by default the configured one.", metavar="OLD")
    ] = None,
) -> None:
    """Clear what a stopped camera left: retained topics, Home Assistant's device, waiting events."""
    from edge.commands.forget import forget_camera
    from edge.config.loader import load_config
    from edge.config.schema import Config

    with config_context(config or "configuration"):
        forget_camera(load_config(config) if config else Config(), file=config, camera=camera, console=out)


@app.command(epilog="Example: mien privacy --config mien.toml")
def privacy(config: OptionalConfigFile = None) -> None:
    """Show what is read, kept and sent to whom with this configuration. Nothing is opened or sent."""
    from edge.commands.privacy import show_privacy
    from edge.config.loader import load_config
    from edge.config.schema import Config

    show_privacy(load_config(config) if config else Config(), file=config, console=out)


@app.command(epilog="Examples: mien demo; mien demo --camera 0")
def demo(
    seconds: Annotated[float, typer.Option(min=0, help="Run this many seconds; 0 runs until Ctrl-C.")] = 30,
    camera: Annotated[str | None, typer.Option(help="Show this camera or video instead of the pictures.")] = None,
) -> None:
    """Show live faces, emotions and events on this terminal; no camera, broker or configuration needed."""
    from edge.commands.demo.run import run_demo

    raise typer.Exit(run_demo(seconds=seconds, camera=camera))


@app.command()
def preview(
    source: Annotated[str | None, typer.Option(help="Show this camera or file instead of the configuration's.")] = None,
    config: OptionalConfigFile = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of this machine.")] = None,
) -> None:
    """Show the camera's picture with faces and emotions in a browser, to aim it; nothing is published."""
    from edge.commands.preview import run_preview

    overrides = {"camera.source": source} if source is not None else None
    with config_context(config or "--source"):
        raise typer.Exit(run_preview(config_file=config, overrides=overrides, port=port, console=out))


@app.command()
def watch(
    broker: Annotated[
        str | None, typer.Option(help="Ask this broker instead of the configuration's.", metavar="HOST[:PORT]")
    ] = None,
    config: OptionalConfigFile = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Show a table here instead of a page.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of this machine for the page.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Run this many seconds; 0 runs until Ctrl-C.")] = 0,
) -> None:
    """Show every device and camera of a broker at a glance, on a page of this machine or as a table."""
    from edge.commands.watch import parse_broker, watch_page, watch_terminal
    from edge.config.loader import load_config
    from edge.config.schema import Config

    mqtt = parse_broker(broker, (load_config(config) if config else Config()).mqtt)
    with config_context(config or "configuration"):
        if terminal:
            raise typer.Exit(watch_terminal(mqtt, seconds=seconds, console=out))
        raise typer.Exit(watch_page(mqtt, port=port, seconds=seconds, console=out))


@app.command(epilog="Examples: mien replay party.mp4 --render; mien replay pictures/ --out faces.jsonl")
def replay(
    source: Annotated[
        str,
        typer.Argument(
            help="A video, a picture, a folder of pictures or a trace.", metavar="VIDEO|FOLDER|PICTURE|TRACE"
        ),
    ],
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="Write one JSON object per frame; - is standard output.", metavar="FILE.jsonl"),
    ] = None,
    render_to: Annotated[
        Path | None,
        typer.Option(
            "--render",
            help="Draw onto the frames; without a value: a name like the source's.",
            metavar="OUT.mp4|OUT.png|FOLDER",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write down what is seen: boxes, landmarks, scores, times; no pixels.", metavar="FILE"),
    ] = None,
    config: OptionalConfigFile = None,
    overrides: Overrides = None,
    load_library: LoadLibrary = False,
) -> None:
    """Run every frame of a file through the pipeline, deterministically; or conclude again from a trace."""
    from edge.pipeline.trace import is_trace

    if is_trace(Path(source)):
        from edge.commands.trace import replay_trace

        refused = {"--config": config, "--render": render_to, "--trace": trace}
        for option in (option for option, value in refused.items() if value is not None):
            raise UsageError(f"{option}: a trace holds no pixels, and its own settings; there are --out and --set")
        replay_trace(Path(source), overrides=parse_overrides(overrides), out=out_file, console=err)
        return

    from edge.commands.replay import implied_path, replay_files

    with config_context(config or "--set"):
        replay_files(
            source,
            config_file=config,
            overrides=parse_overrides(overrides),
            out=out_file,
            render_to=implied_path(source) if render_to == Path(IMPLIED_RENDER) else render_to,
            trace=trace,
            loads_library=load_library,
            console=err,
        )


@app.command(epilog="Example: mien bench --json")
def bench(
    source: Annotated[
        str | None, typer.Option(help="Measure with this video instead of composed pictures of people.")
    ] = None,
    loops: Annotated[int, typer.Option(min=1, max=1000, help="Run the source this many times.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Measure this machine: per-stage latency, overhead over the bare models, memory, start-up."""
    from edge.commands.bench import run_bench

    with config_context("--set"):
        run_bench(source, loops=loops, as_json=as_json, overrides=parse_overrides(overrides), out=out, err=err)


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="Configuration file (TOML).")]) -> None:
    """Check a configuration without starting anything."""
    from edge.config.loader import load_config

    config = load_config(file)

    from edge.service.check import check_config

    with config_context(file):
        check_config(config)
    out.print(f"{file}: good")
    if config.privacy.use_context is None:
        out.print(f"{file}: privacy.use_context is unset: `info` does not say what expressions are read for")


@config_app.command("schema")
def config_schema() -> None:
    """Print the configuration's JSON Schema."""
    schema("config")


@config_app.command("example")
def config_example() -> None:
    """Print a complete, commented configuration."""
    from edge.config.reference import make_example

    print(make_example(), end="")


BundleName = Annotated[str, typer.Argument(help="A folder, or the name of an installed or shipped bundle.")]
BundleFolder = Annotated[Path, typer.Argument(help="The bundle's folder.", metavar="DIR")]
BundleConfig = Annotated[
    Path | None, typer.Option("--config", "-c", help="Require a signature by one of its trusted keys.", metavar="FILE")
]


@bundle_app.command("show")
def bundle_show(bundle: BundleName) -> None:
    """Show a bundle's manifest."""
    from edge.commands.bundle import show_bundle

    show_bundle(bundle, console=out)


@bundle_app.command("verify")
def bundle_verify(bundle: BundleName, config: BundleConfig = None) -> None:
    """Check a bundle's files and replay its golden samples on this machine."""
    from edge.commands.bundle import verify_bundle

    verify_bundle(bundle, config=_trusting(config), console=out)


@bundle_app.command("install")
def bundle_install(
    bundle: BundleFolder,
    config: BundleConfig = None,
    allow_failed: Annotated[
        bool, typer.Option("--allow-failed", help="Install it even if it failed its accuracy gate.")
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="Folder of installed bundles; by default the machine's for root, otherwise yours."),
    ] = None,
) -> None:
    """Verify and install a bundle; services use it from their next start on."""
    from edge.commands.bundle import install_bundle

    install_bundle(bundle, config=_trusting(config), allow_failed=allow_failed, into=into, console=out)


@bundle_app.command("key")
def bundle_key(
    file: Annotated[Path, typer.Argument(help="Write the secret key to this file.", metavar="FILE")],
) -> None:
    """Make a key to sign bundles with, and print the public one."""
    from edge.commands.bundle import make_signing_key

    make_signing_key(file, console=out)


@bundle_app.command("sign")
def bundle_sign(
    bundle: BundleFolder,
    key: Annotated[Path, typer.Option(help="The secret key, as `mien bundle key` made it.", metavar="FILE")],
) -> None:
    """Sign a bundle."""
    from edge.commands.bundle import sign

    sign(bundle, key=key, console=out)


def _trusting(file: Path | None) -> Config | None:
    """Load a configuration and check its trusted keys; None where no file is given."""
    if file is None:
        return None
    from edge.bundles.signing import check_keys
    from edge.config.loader import load_config

    config = load_config(file)
    with config_context(file):
        check_keys(config.bundles.trusted_keys)
    return config


def _schema_names() -> list[str]:
    from edge.commands.schema import NAMES

    return list(NAMES)


@app.command(epilog="Example: mien schema event")
def schema(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the payload or file; an unknown one lists them all.",
            metavar="event|state|health|manifest|config|…",
            autocompletion=_schema_names,
        ),
    ],
) -> None:
    """Print the JSON Schema of a payload, the manifest or the configuration."""
    import json

    from edge.commands.schema import make_schema

    if name not in _schema_names():
        raise UsageError(f"schema: {name!r} is unknown; there are {', '.join(_schema_names())}")
    print(json.dumps(make_schema(name), indent=2))


def parse_overrides(pairs: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a mapping.

    Raises:
        UsageError: a text without ``=``.
    """
    overrides = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set: {pair!r} is not KEY=VALUE")
        overrides[key.strip()] = value.strip()
    return overrides


def name_implied(arguments: list[str]) -> list[str]:
    """Return the arguments with a value behind a ``--render`` that has none; typer knows no optional values."""
    named = []
    for position, argument in enumerate(arguments):
        named.append(argument)
        following = arguments[position + 1] if position + 1 < len(arguments) else "--"
        if argument == "--render" and following.startswith("-"):
            named.append(IMPLIED_RENDER)
    return named


def main() -> None:
    """Run the command ``mien``."""
    sys.argv[1:] = name_implied(sys.argv[1:])
    run_app(app)
