"""How the Singer programs end when something is wrong: one clear line and exit code 1."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from logging import Logger

from simplejson import JSONDecodeError
from singer_sdk.exceptions import ConfigValidationError

from stripe_alloy.errors import AlloyError


def metrics_at_debug(logger: Logger) -> None:
    """Log the SDK's metrics only where `LOGLEVEL` asks for debugging.

    The SDK logs them at INFO, dozens of lines a run; the last line of a run says the same.
    """
    if logger.level == logging.INFO:
        logger.setLevel(logging.WARNING)


def run(command: Callable[[], object], logger: Logger) -> None:
    """Run a program; an error that is foreseen is told in one line, without a traceback."""
    try:
        command()
    except ConfigValidationError as error:
        for problem in error.errors:
            logger.critical("Setting: %s", problem)
    except JSONDecodeError as error:
        logger.critical("A file given with --config, --state or --catalog is no JSON: %s", error)
    except (AlloyError, OSError) as error:
        logger.critical("%s", error)
    else:
        return
    sys.exit(1)
