"""``xobackup workers``: who lives, where, with how much to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, duration_text

if TYPE_CHECKING:
    from xobackup.workers.records import Seen

SKEW_S = 5.0
"""A clock that is off by more is told."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(workers)


def workers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List workers: site, version, load, what they reach, their last sign of life, a clock that is wrong."""
    from xobackup.cli.engine_store import opened_board
    from xobackup.workers.peers import living_peers

    output = Output(as_json=as_json)
    with opened_board(read_configuration(config)) as board:
        found, waiting = board.workers(), board.waiting()
        relays = {one.worker: one.address for one in living_peers(board)}
    for one in found:
        output.record("worker", {**asdict(one), "alive": one.alive, "relay": relays.get(one.worker.id, "")})
    output.record("queues", {"waiting": waiting})
    if found:
        columns = ["site", "host", "version", "load!", "last heard of>!", "state", "reaches", "does"]
        output.table(
            count_text(len(found), "worker"), columns, [_row(one, relays.get(one.worker.id, "")) for one in found]
        )
    else:
        output.say("no worker was heard of; start one: xobackup worker --site NAME")
    for queue, count in sorted(waiting.items()):
        output.say(
            f"{count_text(count, 'VM')} wait for {'any worker' if queue == '*' else f'a worker of site {queue}'}"
        )
    versions = Counter(one.worker.version for one in found if one.alive)
    if len(versions) > 1:
        output.say(f"versions differ: {', '.join(f'{count} of {name}' for name, count in versions.items())}")


def _row(one: Seen, relay: str) -> list[str]:
    worker = one.worker
    doing = ", ".join(str(order.get("vm_name") or order.get("vm")) for order in one.doing)
    return [
        worker.site or "any",
        f"{worker.host} ({worker.pid})",
        worker.version,
        f"{len(one.doing)}/{worker.slots}",
        f"{duration_text(max(0.0, one.age_s))} ago",
        _state(one) + (f"; relay at {relay}" if relay else ""),
        ", ".join(name for names in worker.reach.values() for name in names),
        doing,
    ]


def _state(one: Seen) -> str:
    state = "lost" if not one.alive else "draining" if one.worker.draining else f"up {duration_text(one.up_s)}"
    if abs(one.skew_s) < SKEW_S:
        return state
    side = "ahead" if one.skew_s > 0 else "behind"
    return f"{state}; its clock is {duration_text(abs(one.skew_s))} {side}"
