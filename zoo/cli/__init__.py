"""The commands ``zoo`` and ``lightning``: they read arguments and print; the work is done below."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

TRAINING = ("fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``zoo`` and give its exit status: 0, 1 when a part failed, 2 for an error of the user."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    if arguments and arguments[0] in TRAINING:
        from zoo.cli.train import run

        return run(arguments)
    from zoo.cli.commands import run_command

    return run_command(arguments)


def lightning_main() -> int:
    """Run ``lightning``: our training commands, and whatever else another package gives it."""
    _prepare_streams()
    from zoo.cli.train import lightning_main as run

    return run() or 0


def _prepare_streams() -> None:
    """Any file name can be printed in any locale; the zoo's own messages are plain lines."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    log = logging.getLogger("zoo")
    if not log.handlers:
        log.addHandler(StandardError())
        log.setLevel(logging.INFO)
        log.propagate = False


class StandardError(logging.Handler):
    """Lines on standard error, whatever that is by then: a progress bar takes its place."""

    def emit(self, record: logging.LogRecord) -> None:  # noqa: D102
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)
