"""The `stripe-alloy` command."""

from __future__ import annotations

import math
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stripe_alloy.api.errors import AlloyError, SettingsError, one_line, without_secrets
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.singer_main import said_of_system, said_of_usage
from stripe_alloy.text_files import open_lines, read_object, shown_name

MAX_BODY_BYTES = 1 << 28
MAX_TOLERANCE = 31 * DAY


class _Group(click.Group):
    """Reports errors in one line, without secrets, and exits with a code."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run it."""
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        try:
            done = run(*args, standalone_mode=False, **extra)
        except click.ClickException as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # not in all versions of click
                error.show()
                sys.exit(error.exit_code)
            if isinstance(error, click.UsageError):
                self._fail(said_of_usage(error), error.exit_code)
            self._fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            self._fail("Aborted.", 1)
        except AlloyError as error:
            self._fail(str(error), 1)
        except OSError as error:
            self._fail(said_of_system(error), 1)
        sys.exit(done if isinstance(done, int) else 0)

    @staticmethod
    def _fail(message: str, code: int) -> None:
        line = " ".join(message.split())
        click.echo(f"Error: {one_line(without_secrets(line))}", err=True)
        sys.exit(code)


class _Seconds(click.FloatRange):
    """A finite number of seconds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert what was given."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return found


_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


def _port(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        default=default,
        show_default=True,
        help="Port to listen on; 0 picks one.",
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stripe-alloy", prog_name="stripe-alloy")
def main() -> None:
    """Tools for tap-stripe-alloy and target-stripe-alloy."""


@main.group()
def emulator() -> None:
    """An emulated Stripe for development and tests."""


@emulator.command()
@_HOST
@_port(12111)
@click.option("--seed", default=0, show_default=True, help="Seed of the generated data.")
@click.option(
    "--customers",
    type=click.IntRange(0),
    default=150,
    show_default=True,
    help="Number of customers in the seeded data.",
)
@click.option(
    "--accounts",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of connected accounts.",
)
@click.option("--db", default=":memory:", show_default=True, help="SQLite file for the account.")
@click.option(
    "--limits",
    type=click.Choice(["test", "live", "none"]),
    default="none",
    show_default=True,
    help="Rate limits: those of a sandbox (test), of live mode, or none.",
)
@click.option(
    "--latency",
    type=_Seconds(0, 3_600),
    default=0.0,
    show_default=True,
    help="Delay before each response, in seconds.",
)
def serve(*, limits: str, **given: Any) -> None:
    """Serve until SIGINT or SIGTERM."""
    from stripe_alloy.emulator import Emulator  # noqa: PLC0415 - other commands do without it

    stripe = Emulator(limits=None if limits == "none" else limits, **given)
    done = _until_signal()
    try:
        stripe.start()
    except sqlite3.Error as error:
        raise click.ClickException(f"--db cannot be opened: {error}") from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such host"
        place = f"{given['host']}:{given['port']}"
        raise click.ClickException(f"cannot listen on {place}: {reason}") from error
    click.echo(
        f"Stripe emulator at {stripe.url}, key {stripe.api_key}: "
        f'stripe.StripeClient("{stripe.api_key}", base_addresses={{"api": "{stripe.url}"}})',
        err=True,
    )
    done.wait()
    stripe.stop()


@main.command()
@click.option(
    "--config",
    help="The tap's configuration file: `webhook_inbox`, and the key for --register.",
)
@click.option("--inbox", help="SQLAlchemy URL of the inbox: a SQLite file, or PostgreSQL.")
@_HOST
@_port(8042)
@click.option(
    "--secret-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of signing secrets, one per line; reloaded when it changes.",
)
@click.option(
    "--register",
    metavar="URL",
    help="Create or update the webhook endpoint with this URL, and store its secret in the file.",
)
@click.option(
    "--stream",
    "streams",
    multiple=True,
    help="Receive events of this stream; repeatable. Default: all.",
)
@click.option(
    "--name",
    help="Name of the receiver: --register changes only endpoints with this name. Default: the "
    "name in the file of secrets, or one made of host and path.",
)
@click.option(
    "--tolerance",
    type=click.IntRange(1, MAX_TOLERANCE),
    default=300,
    show_default=True,
    help="Maximum age of a signature, in seconds.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, MAX_BODY_BYTES),
    default=1 << 20,
    show_default=True,
    help="Maximum size of a request body, in bytes.",
)
def listen(*, config: str | None, inbox: str | None, **given: Any) -> None:
    """Receive Stripe's webhooks into an inbox, until SIGINT or SIGTERM.

    Signing secrets are read from the file of secrets, and from STRIPE_WEBHOOK_SECRET, separated by
    commas. If several accounts deliver to one inbox, name the account of each secret:
    acct_…=whsec_… in the variable, or `# acct_…` after the secret in the file.
    """
    try:
        from stripe_alloy.webhooks.listen import Options  # noqa: PLC0415 - heavy
        from stripe_alloy.webhooks.listen import listen as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: install stripe-alloy[webhooks]"
        ) from None
    from tap_stripe_alloy.settings import read_settings  # noqa: PLC0415 - heavy

    settings = None
    if config:
        given_config = read_object(config, "--config")
        _check_types(given_config)
        settings = read_settings(given_config)
        inbox = inbox or settings.webhook_inbox
    accounts = settings.account_ids if settings else ()
    options = Options(settings, accounts, inbox, **given)
    run(options, lambda line: click.echo(without_secrets(line), err=True))


def _check_types(config: dict[str, Any]) -> None:
    """Raise `SettingsError` for values of a wrong type, without quoting them."""
    from stripe_alloy.configs import problems_in  # noqa: PLC0415 - heavy
    from tap_stripe_alloy.settings import DECLARED  # noqa: PLC0415 - heavy

    problems = problems_in(config, DECLARED.to_dict(), partial=True)
    if problems:
        raise SettingsError("; ".join(problems))


_CONFIG = click.option(
    "--config",
    "configs",
    multiple=True,
    required=True,
    help="The target's configuration file; several are merged.",
)


@main.command()
@_CONFIG
@click.option(
    "--input",
    "messages",
    default="-",
    help="File of Singer messages; `-` for standard input.",
)
@click.option("--output", default=None, help="JSONL file for the plan.")
def plan(*, configs: tuple[str, ...], messages: str, output: str | None) -> None:
    """Show what the target would write, record by record, and what Stripe would invoice for it.

    Only GET requests and previews of invoices are sent.
    """
    from target_stripe_alloy import commands  # noqa: PLC0415 - heavy

    _check_configs(configs)
    with sys.stdin if messages == "-" else open_lines(messages, "--input") as lines:
        sys.exit(commands.plan(configs, lines, output))


@main.group()
def rejects() -> None:
    """Work with records that the target did not write."""


@rejects.command()
@_CONFIG
@click.argument("file")
def replay(*, configs: tuple[str, ...], file: str) -> None:
    """Write the records of a rejects FILE, once the cause is fixed.

    Records may be corrected in the file itself. Afterwards, FILE contains only the records that
    were rejected again.
    """
    from target_stripe_alloy import commands  # noqa: PLC0415 - heavy

    _check_configs(configs)
    if not Path(file).is_file():
        raise SettingsError(f"The rejects file does not exist: {shown_name(file)}")
    sys.exit(commands.replay(configs, file))


def _check_configs(files: tuple[str, ...]) -> None:
    for file in files:
        read_object(file, "--config")


def _until_signal() -> threading.Event:
    done = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: done.set())
    return done


if __name__ == "__main__":
    main()
