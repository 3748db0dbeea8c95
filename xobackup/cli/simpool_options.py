"""The options of ``xobackup simpool``, in the panels its help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

MADE = "What the pool is made of (when it is new)"
BEHAVES = "How it behaves"
TROUBLE = "What goes wrong"


def _option(panel: str, name: str, words: str, **more: Any) -> Any:
    return typer.Option(name, help=words, rich_help_panel=panel, **more)


Directory = Annotated[Path, typer.Argument(help="Where its disks live; reopened when it is there already.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 = any free one.")]
Address = Annotated[str, typer.Option("--address", help="Where to listen.")]
Pools = Annotated[int, typer.Option("--pools", min=1, max=8, help="So many of them, on the ports that follow.")]

Seed = Annotated[int, _option(MADE, "--seed", "The same seed gives the same disks.")]
Hosts = Annotated[int, _option(MADE, "--hosts", "The first is the master.", min=1, max=64)]
Ipv6 = Annotated[bool, _option(MADE, "--ipv6", "Its hosts offer NBD on ::1 too.")]
Srs = Annotated[
    list[str] | None,
    _option(
        MADE,
        "--sr",
        "NAME=TYPE[,size=10G][,used=9G][,formats=qcow2+vhd][,hosts=0+1][,read-only]. The first is the default.",
    ),
]
Vms = Annotated[
    list[str] | None,
    _option(
        MADE,
        "--vm",
        "NAME=SIZE[+SIZE][,filled=SIZE][,tag=TAG][,suspended][,uefi]...; docs/simpool.md has all. May be repeated.",
    ),
]
Nbd = Annotated[Literal["off", "nbd", "insecure_nbd"], _option(MADE, "--nbd", "Purpose of its first network.")]

Release = Annotated[Literal["7.1", "8.2", "8.3"], _option(BEHAVES, "--release", "Older ones lack calls and fields.")]
Down = Annotated[list[str] | None, _option(BEHAVES, "--down", "A host that is off: host-2. May be repeated.")]
Guests = Annotated[float | None, _option(BEHAVES, "--guests", "Running VMs write, every so many seconds.", min=0.01)]
Gc = Annotated[float | None, _option(BEHAVES, "--gc", "Coalesce by itself after so many quiet seconds.", min=0.0)]
ClockSkew = Annotated[float, _option(BEHAVES, "--clock-skew", "Seconds its clocks are ahead.")]
LatencyMs = Annotated[float, _option(BEHAVES, "--latency-ms", "Of every answer.", min=0.0)]
BandwidthMbit = Annotated[float | None, _option(BEHAVES, "--bandwidth-mbit", "Of each connection.", min=0.001)]
FirstByteS = Annotated[float, _option(BEHAVES, "--first-byte-s", "Until a transfer's first byte.", min=0.0)]

FaultRules = Annotated[
    list[str] | None,
    _option(TROUBLE, "--fault", "'fail VM.snapshot VDI_IN_USE times=2'; docs/simpool.md has all. May be repeated."),
]
FaultRate = Annotated[
    float, _option(TROUBLE, "--fault-rate", "Share of calls and transfers that go wrong.", min=0.0, max=1.0)
]
FaultSeed = Annotated[int, _option(TROUBLE, "--fault-seed", "Which of them do.")]
