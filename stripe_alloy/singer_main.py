"""Runs the Singer programs; errors are logged in one line and exit with 1."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from logging import Logger, LogRecord
from pathlib import Path

import click

from stripe_alloy.api.errors import AlloyError, one_line, without_secrets
from stripe_alloy.text_files import shown_name

_HARMLESS = re.compile(r"'?-?[0-9.]{1,20}'? is not |^Missing |^Option .* requires an argument")
"""Click's messages about an option's value that cannot be a secret."""
_CLICKS_STDOUT = "PacifyFlushWrapper"
"""Name of the object that click puts in place of stdout when the reader of the pipe is gone.

Newer versions begin the name with an underscore.
"""
FRAMES = 8
"""Maximum number of code locations in the message about an unexpected error."""
_QUIET = ("singer_sdk.mapper", "urllib3")
"""Loggers whose INFO and DEBUG lines quote expressions, records and requests."""


def metrics_at_debug(logger: Logger) -> None:
    """Log the SDK's metrics only with `LOGLEVEL=debug`.

    The SDK logs them at INFO, dozens of lines per run; the run's last line has the same numbers.
    """
    if logger.level == logging.INFO:
        logger.setLevel(logging.WARNING)


def discreet(record: LogRecord) -> bool:
    """Make a log record one line without secrets: a filter for handlers."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # its arguments do not fit
        message = str(record.msg)
    record.msg, record.args = one_line(without_secrets(message)), ()
    if record.exc_info and not record.exc_text:
        trace = "".join(traceback.format_exception(*record.exc_info))
        record.exc_text = without_secrets(trace.rstrip())
    return True


def log_discreetly() -> None:
    """Make all log records, those of libraries included, one line without secrets."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(discreet)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def check_output() -> None:
    """Raise `AlloyError` if standard output is closed."""
    if sys.stdout is None:  # type: ignore[redundant-expr, unused-ignore]
        raise AlloyError(
            "stdout is closed, and messages are written there: open it, or use /dev/null"
        )


def forget_output() -> None:
    """Discard stdout's buffer, because Python would fail on it again at exit."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def run(command: Callable[[], object], logger: Logger) -> None:
    """Run a program; errors are logged in one line, without a traceback.

    An integer returned by `command` is the exit code.
    """
    code, said = _ended(command)
    if said:
        log_discreetly()
        logger.critical("%s", one_line(without_secrets(said)))
    if code:
        sys.exit(code)


def _ended(command: Callable[[], object]) -> tuple[int, str]:
    """Run a program; return its exit code, and the message about its end."""
    try:
        done = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit:
        if type(sys.stdout).__name__.lstrip("_") == _CLICKS_STDOUT:
            return 1, said_of_system(BrokenPipeError())
        raise
    except click.UsageError as error:
        return error.exit_code, said_of_usage(error)
    except click.Abort:
        return 1, "Aborted"
    except click.ClickException as error:
        return error.exit_code, error.format_message()
    except Exception as error:  # noqa: BLE001 - a traceback may show a record
        return 1, said_of(error)
    return (done, "") if isinstance(done, int) else (0, "")


def said_of(error: Exception) -> str:
    """Return an error in one line; of an unexpected one, only its kind."""
    if isinstance(error, AlloyError):
        return str(error)
    return said_of_system(error) if isinstance(error, OSError) else _unforeseen(error)


def said_of_usage(error: click.UsageError) -> str:
    """Return an error in the options, without their values: these may be settings."""
    about = error.format_message()
    if about.startswith("Got unexpected"):
        about = "There are more arguments than the options take: is an argument with spaces quoted?"
    elif isinstance(error, click.BadParameter) and not _HARMLESS.search(about):
        name = getattr(error.param, "opts", ["an option"])[-1]
        choices = getattr(getattr(error.param, "type", None), "choices", ())
        about = f"{name} cannot take this value"
        about += f": one of {', '.join(map(str, choices))}" if choices else ""
    path = error.ctx.command_path if error.ctx else ""
    return f"{about} See {path} --help.".replace("  ", " ")


def said_of_system(error: OSError) -> str:
    """Return an error of the operating system, with the file's name if it is a plain one."""
    if isinstance(error, BrokenPipeError):
        forget_output()
        return "The output cannot be written: its reader is gone"
    where = f"{shown_name(str(error.filename))}: " if error.filename else ""
    return f"{where}{error.strerror or type(error).__name__}"


def _unforeseen(error: Exception) -> str:
    """Return the kind and location of an unexpected error; its message may contain a record."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)]
    return (
        f"Unexpected error: {type(error).__name__} at {', called at '.join(places)}. "
        "Please report it"
    )
