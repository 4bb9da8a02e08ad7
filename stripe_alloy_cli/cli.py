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
from stripe_alloy.singer_main import said_of_system, said_of_usage
from stripe_alloy.text_files import open_lines, read_object, shown_name

MAX_BODY_BYTES = 1 << 28
MAX_TOLERANCE = 31 * 86_400


class _Group(click.Group):
    """A command that says what is wrong in one line, without secrets, and ends with a code."""

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
    """A number of seconds; `nan` and `inf` are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert what was given."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return found


_PORT = click.IntRange(0, 65_535)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stripe-alloy", prog_name="stripe-alloy")
def main() -> None:
    """Tools around tap-stripe-alloy and target-stripe-alloy."""


@main.group()
def emulator() -> None:
    """An embedded Stripe to develop and test against."""


@emulator.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=_PORT, default=12111, show_default=True, help="Port to listen on; 0 picks one."
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same business.")
@click.option(
    "--customers",
    type=click.IntRange(0),
    default=150,
    show_default=True,
    help="Size of the business.",
)
@click.option(
    "--accounts",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Connected accounts besides.",
)
@click.option("--db", default=":memory:", show_default=True, help="SQLite file to keep it in.")
@click.option(
    "--limits",
    type=click.Choice(["test", "live", "none"]),
    default="none",
    show_default=True,
    help="Stripe's rate limits: of a sandbox, of live mode.",
)
@click.option(
    "--latency",
    type=_Seconds(0, 3_600),
    default=0.0,
    show_default=True,
    help="Seconds before each answer.",
)
def serve(
    *,
    host: str,
    port: int,
    seed: int,
    customers: int,
    accounts: int,
    db: str,
    limits: str,
    latency: float,
) -> None:
    """Serve until SIGINT or SIGTERM."""
    from stripe_alloy.emulator import Emulator  # noqa: PLC0415 - other commands do without it

    stripe = Emulator(
        seed,
        customers,
        db=db,
        limits=None if limits == "none" else limits,
        latency=latency,
        accounts=accounts,
        host=host,
        port=port,
    )
    done = _until_signal()
    try:
        stripe.start()
    except sqlite3.Error as error:
        raise click.ClickException(f"--db cannot be opened: {error}") from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such host"
        raise click.ClickException(f"cannot listen on {host}:{port}: {reason}") from error
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
    help="The tap's configuration: its `webhook_inbox`, and the key for --register.",
)
@click.option("--inbox", help="SQLAlchemy URL of the inbox: a SQLite file, or PostgreSQL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=_PORT, default=8042, show_default=True, help="Port to listen on; 0 picks one."
)
@click.option(
    "--secret-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of signing secrets, one a line; read again when it changes.",
)
@click.option(
    "--register",
    metavar="URL",
    help="Tell Stripe to deliver to this URL, and store the secret in the file of secrets.",
)
@click.option("--stream", "streams", multiple=True, help="A stream to be told of; default: all.")
@click.option(
    "--name",
    help="The receiver's name: of the endpoints with this URL, --register changes only those that "
    "carry it. Default: the name in the file of secrets, or one made of host and path.",
)
@click.option(
    "--tolerance",
    type=click.IntRange(1, MAX_TOLERANCE),
    default=300,
    show_default=True,
    help="Seconds that a signature is good for.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, MAX_BODY_BYTES),
    default=1 << 20,
    show_default=True,
    help="Bytes that a request may have.",
)
def listen(*, config: str | None, inbox: str | None, **given: Any) -> None:
    """Receive Stripe's webhooks into an inbox, until SIGINT or SIGTERM.

    Signing secrets come from the file of secrets, or from STRIPE_WEBHOOK_SECRET, with commas
    between them. Where several accounts deliver to one inbox, say whose each is:
    acct_…=whsec_… there, or `# acct_…` behind it in the file.
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
    """Refuse values of another type than the settings have, without quoting one."""
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
    help="The target's configuration; several are merged.",
)


@main.command()
@_CONFIG
@click.option(
    "--input",
    "messages",
    default="-",
    help="Singer messages.",
)
@click.option("--output", default=None, help="JSONL file for the plan.")
def plan(*, configs: tuple[str, ...], messages: str, output: str | None) -> None:
    """Say what the target would write, record by record, and what Stripe would invoice for it.

    Sends nothing but GETs and requests for previews of invoices.
    """
    from target_stripe_alloy import commands  # noqa: PLC0415 - heavy

    _check_configs(configs)
    with sys.stdin if messages == "-" else open_lines(messages, "--input") as lines:
        sys.exit(commands.plan(configs, lines, output))


@main.group()
def rejects() -> None:
    """Records that the target did not write."""


@rejects.command()
@_CONFIG
@click.argument("file")
def replay(*, configs: tuple[str, ...], file: str) -> None:
    """Write the records of a rejects FILE, after what was wrong is mended.

    A record may be mended in the file itself. What is rejected again is in FILE afterwards,
    everything else is gone from it.
    """
    from target_stripe_alloy import commands  # noqa: PLC0415 - heavy

    _check_configs(configs)
    if not Path(file).is_file():
        raise SettingsError(f"There is no file of rejects: {shown_name(file)}")
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
