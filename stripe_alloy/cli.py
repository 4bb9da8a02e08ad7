"""The `stripe-alloy` command."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stripe-alloy", prog_name="stripe-alloy")
def main() -> None:
    """Tools around tap-stripe-alloy and target-stripe-alloy."""


@main.group()
def emulator() -> None:
    """An embedded Stripe to develop and test against."""


@emulator.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=12111, show_default=True, help="Port to listen on; 0 picks one.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same business.")
@click.option("--customers", default=150, show_default=True, help="Size of the business.")
@click.option("--accounts", default=0, show_default=True, help="Connected accounts besides.")
@click.option("--db", default=":memory:", show_default=True, help="SQLite file to keep it in.")
@click.option(
    "--limits",
    type=click.Choice(["test", "live", "none"]),
    default="none",
    show_default=True,
    help="Stripe's rate limits: of a sandbox, of live mode.",
)
@click.option("--latency", default=0.0, show_default=True, help="Seconds before each answer.")
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
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
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
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The tap's configuration: its `webhook_inbox`, and the key for --register.",
)
@click.option("--inbox", help="SQLAlchemy URL of the inbox: a SQLite file, or PostgreSQL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8042, show_default=True, help="Port to listen on; 0 picks one.")
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
    "--tolerance", default=300, show_default=True, help="Seconds that a signature is good for."
)
@click.option(
    "--max-body", default=1 << 20, show_default=True, help="Bytes that a request may have."
)
def listen(*, config: Path | None, **given: Any) -> None:
    """Receive Stripe's webhooks into an inbox, until SIGINT or SIGTERM.

    Signing secrets come from the file of secrets, or from STRIPE_WEBHOOK_SECRET, with commas
    between them.
    """
    try:
        from stripe_alloy.webhooks.listen import Options  # noqa: PLC0415 - heavy
        from stripe_alloy.webhooks.listen import listen as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: install stripe-alloy[webhooks]"
        ) from None
    from stripe_alloy.errors import AlloyError  # noqa: PLC0415
    from tap_stripe_alloy.settings import read_settings  # noqa: PLC0415 - heavy

    try:
        settings = read_settings(json.loads(config.read_text("utf-8"))) if config else None
        run(Options(settings, **given), lambda line: click.echo(line, err=True))
    except json.JSONDecodeError as error:
        raise click.ClickException(f"{config} is no JSON: {error}") from None
    except (AlloyError, OSError) as error:
        raise click.ClickException(str(error)) from None


_CONFIG = click.option(
    "--config",
    "configs",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="The target's configuration; several are merged.",
)


@main.command()
@_CONFIG
@click.option("--input", "messages", type=click.File("r"), default="-", help="Singer messages.")
@click.option("--output", default=None, help="JSONL file for the plan.")
def plan(*, configs: tuple[str, ...], messages: IO[str], output: str | None) -> None:
    """Say what the target would write, record by record, and what Stripe would invoice for it.

    Sends nothing but GETs and requests for previews of invoices.
    """
    from target_stripe_alloy import commands  # noqa: PLC0415 - heavy

    sys.exit(commands.plan(configs, messages, output))


@main.group()
def rejects() -> None:
    """Records that the target did not write."""


@rejects.command()
@_CONFIG
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def replay(*, configs: tuple[str, ...], file: str) -> None:
    """Write the records of a rejects FILE, after what was wrong is mended.

    A record may be mended in the file itself. What is rejected again is in FILE afterwards,
    everything else is gone from it.
    """
    from target_stripe_alloy import commands  # noqa: PLC0415 - heavy

    sys.exit(commands.replay(configs, file))


def _until_signal() -> threading.Event:
    done = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: done.set())
    return done


if __name__ == "__main__":
    main()
