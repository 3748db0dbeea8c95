"""``xobackup simpool``: a simulated pool to try things against, as good or as bad as wanted."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import typer

from xobackup.cli import simpool_options as given
from xobackup.cli.options import JsonOption
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.simpool.serve import Announcement


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simpool)


def simpool(
    directory: given.Directory,
    port: given.Port = 8443,
    address: given.Address = "127.0.0.1",
    pools: given.Pools = 1,
    seed: given.Seed = 0,
    hosts: given.Hosts = 1,
    ipv6: given.Ipv6 = False,
    sr: given.Srs = None,
    vm: given.Vms = None,
    nbd: given.Nbd = "off",
    release: given.Release = "8.3",
    down: given.Down = None,
    guests: given.Guests = None,
    gc: given.Gc = 5.0,
    clock_skew: given.ClockSkew = 0.0,
    latency_ms: given.LatencyMs = 0.0,
    bandwidth_mbit: given.BandwidthMbit = None,
    first_byte_s: given.FirstByteS = 0.0,
    fault: given.FaultRules = None,
    fault_rate: given.FaultRate = 0.0,
    fault_seed: given.FaultSeed = 0,
    as_json: JsonOption = False,
) -> None:
    """Serve a simulated XAPI pool over HTTPS until interrupted. Not for real data."""
    from xobackup.simpool.fault_rules import parse_fault
    from xobackup.simpool.flags import BadFlag, make_spec
    from xobackup.simpool.options import Options
    from xobackup.simpool.serve import Trouble, serve

    try:
        purpose = "" if nbd == "off" else nbd
        spec = make_spec(hosts=hosts, down=down or (), srs=sr or (), vms=vm or (), nbd=purpose, ipv6=ipv6)
        rules = tuple(parse_fault(one) for one in fault or ())
    except BadFlag as error:
        raise typer.BadParameter(str(error)) from error
    output = Output(as_json=as_json)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    serve(
        directory,
        stop=stop,
        announce=lambda pool: _announce(output, pool),
        spec=spec,
        options=Options.of_release(release, auto_gc_s=gc, clock_skew_s=clock_skew),
        address=address,
        port=port,
        seed=seed,
        guest_pause_s=guests,
        pools=pools,
        trouble=Trouble(
            rules=rules,
            latency_s=latency_ms / 1000,
            bytes_per_s=None if bandwidth_mbit is None else bandwidth_mbit * 125_000,
            first_byte_s=first_byte_s,
            random_seed=fault_seed if fault_rate else None,
            random_rate=fault_rate,
        ),
    )


def _announce(output: Output, pool: Announcement) -> None:
    output.record(
        "pool",
        {
            "name": pool.name,
            "url": pool.url,
            "username": pool.username,
            "password": pool.password,
            "fingerprint": pool.fingerprint_sha256,
            "ca": str(pool.ca_pem_path),
            "hosts": pool.hosts,
            "vms": pool.vms,
        },
    )
    output.say(f"{pool.name} at {pool.url}; stop it with Ctrl-C", style="bold")
    output.say(f"VMs: {', '.join(pool.vms)}")
    output.say("for a configuration:")
    output.say(f"  [pools.{pool.name.replace(' ', '-')}]")
    output.say(f'  url = "{pool.url}"')
    output.say(f'  username = "{pool.username}"')
    output.say(f'  password = "{pool.password}"')
    output.say(f'  tls = {{ fingerprint = "{pool.fingerprint_sha256}" }}')
