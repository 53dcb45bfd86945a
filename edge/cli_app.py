"""The frame of every command line: one line for an error, documented exit codes, a traceback only on demand."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from edge.errors import EXIT_CLEAN, EXIT_RUNTIME, MienError


def run_app(app: Callable[[], Any], *, prog: str) -> NoReturn:
    """Run a typer application and exit.

    Args:
        app: the application; reads ``sys.argv``.
        prog: name of the command, printed before errors.

    ``--debug`` anywhere on the command line, or ``MIEN_DEBUG=1``, shows tracebacks.
    """
    debug = "--debug" in sys.argv[1:] or bool(os.environ.get("MIEN_DEBUG"))
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app()
    except MienError as error:
        if debug:
            raise
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away (`mien schema event | head -1`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_RUNTIME)
    sys.exit(EXIT_CLEAN)
