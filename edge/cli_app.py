"""The frame of every command line: one line for an error, documented exit codes, a traceback only on demand."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from edge import __version__
from edge.errors import EXIT_CLEAN, EXIT_RUNTIME, EXIT_USAGE, MienError
from edge.packages import install_line

CommandLineError: Any = typer.BadParameter.__mro__[1]
"""Click's `UsageError`, of the click that this typer uses: its own or the installed one."""


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        print(f"{context.find_root().command.name} {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options of every command; ``--debug`` is read by `run_app`."""


def make_app(name: str, *, help_text: str) -> typer.Typer:
    """Make a command with ``--version``, ``--debug`` and ``-h``; commands are added to it.

    Args:
        name: of the command.
        help_text: what it is for, one sentence.
    """
    app = typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        epilog=f"Completion for your shell: {name} --install-completion",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return app


def secure_streams() -> None:
    """Make standard streams safe to use: closed ones lead nowhere, and what their encoding lacks is escaped.

    A descriptor that is closed would go to the next file that is opened, and take what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # noqa: PERF203
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_app(app: typer.Typer) -> NoReturn:
    """Run an application of `make_app` and exit.

    ``--debug`` anywhere on the command line, or ``MIEN_DEBUG=1``, shows tracebacks.
    """
    secure_streams()
    debug = "--debug" in sys.argv[1:] or bool(os.environ.get("MIEN_DEBUG"))
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(standalone_mode=False)  # the exit code of `typer.Exit`
    except CommandLineError as error:
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":  # the help was asked for by saying nothing
            print(message, end="")
            sys.exit(EXIT_USAGE)
        command = error.ctx.command_path if error.ctx else app.info.name
        problem = " ".join(message.split()).rstrip(".")
        print(f"{app.info.name}: error: {problem}; see {command} --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except typer.Abort:
        sys.exit(130)
    except MienError as error:
        if debug:
            raise
        print(f"{app.info.name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, MemoryError) as error:
        if debug:
            raise
        print(f"{app.info.name}: error: {_loading_problem(error)}", file=sys.stderr)
        sys.exit(EXIT_RUNTIME)
    except BrokenPipeError:  # the reader of our output went away (`mien schema event | head -1`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_RUNTIME)
    sys.exit(status or EXIT_CLEAN)


def _loading_problem(error: ImportError | MemoryError) -> str:
    """Return one line for a package that every command needs and that is missing or cannot be loaded."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name.partition('.')[0]} is not installed: {install_line()}"
    lines = str(error).strip().splitlines()
    return f"cannot be loaded: {lines[-1]}" if lines else "too little memory"
