"""``xobackup simpool``: a simulated pool to try things against."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.options import JsonOption
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.simpool.serve import Announcement


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simpool)


def simpool(
    directory: Annotated[Path, typer.Argument(help="Where its disks live; reopened when it is there already.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 = any free one.")] = 8443,
    address: Annotated[str, typer.Option("--address", help="Where to listen.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same disks.")] = 0,
    guests: Annotated[
        float | None, typer.Option("--guests", min=0.01, help="Let running VMs write, every so many seconds.")
    ] = None,
    gc: Annotated[
        float | None, typer.Option("--gc", min=0.0, help="Coalesce by itself after so many quiet seconds.")
    ] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Serve a simulated XAPI pool over HTTPS until interrupted. Not for real data."""
    from xobackup.simpool.options import Options
    from xobackup.simpool.serve import serve

    output = Output(as_json=as_json)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def announce(pool: Announcement) -> None:
        output.record(
            "pool",
            {
                "url": pool.url,
                "username": pool.username,
                "password": pool.password,
                "fingerprint": pool.fingerprint_sha256,
                "ca": str(pool.ca_pem_path),
                "vms": pool.vms,
            },
        )
        output.say(f"simulated pool at {pool.url}; stop it with Ctrl-C", style="bold")
        output.say(f"VMs: {', '.join(pool.vms)}")
        output.say("for a configuration:")
        output.say("  [pools.simulated]")
        output.say(f'  url = "{pool.url}"')
        output.say(f'  username = "{pool.username}"')
        output.say(f'  password = "{pool.password}"')
        output.say(f'  tls = {{ fingerprint = "{pool.fingerprint_sha256}" }}')

    serve(
        directory,
        stop=stop,
        announce=announce,
        options=Options(auto_gc_s=gc),
        address=address,
        port=port,
        seed=seed,
        guest_pause_s=guests,
    )
