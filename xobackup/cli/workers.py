"""``xobackup workers``: who lives, where, with how much to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, duration_text
from xobackup.workers.records import SKEW_S

if TYPE_CHECKING:
    from xobackup.workers.nodes import SeenNode
    from xobackup.workers.records import Seen


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(workers)


def workers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List workers and control nodes: version, load, what they reach, last sign of life, a clock that is wrong."""
    from xobackup.cli.engine_store import opened_board
    from xobackup.workers.kinds import site_of
    from xobackup.workers.nodes import nodes_of
    from xobackup.workers.peers import living_peers

    output = Output(as_json=as_json)
    with opened_board(read_configuration(config)) as board:
        found, waiting, nodes = board.workers(), board.waiting(), nodes_of(board)
        relays = {one.worker: one.address for one in living_peers(board)}
    for one in found:
        output.record("worker", {**asdict(one), "alive": one.alive, "relay": relays.get(one.worker.id, "")})
    for node in nodes:
        output.record("node", {**asdict(node), "alive": node.alive})
    output.record("queues", {"waiting": waiting})
    if found:
        columns = ["site", "host", "version", "load!", "last heard of>!", "state", "reaches", "does"]
        output.table(
            count_text(len(found), "worker"), columns, [_row(one, relays.get(one.worker.id, "")) for one in found]
        )
    else:
        output.say("no worker was heard of; start one: xobackup worker --site NAME")
    by_site: Counter[str] = Counter()
    for queue, count in waiting.items():
        by_site[site_of(queue)] += count
    for site, count in sorted(by_site.items()):
        output.say(
            f"{count_text(count, 'task')} wait for {'any worker' if site == '*' else f'a worker of site {site}'}"
        )
    if nodes:
        columns = ["host", "version", "last heard of>!", "state", "runs"]
        title = count_text(len(nodes), "control node")
        output.table(f"{title} with shared schedules", columns, [_node_row(one) for one in nodes])
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
        ", ".join(name for kind, names in worker.reach.items() if kind != "kinds" for name in names),
        doing,
    ]


def _node_row(one: SeenNode) -> list[str]:
    node = one.node
    state = f"up {duration_text(one.up_s)}" if one.alive else "lost"
    heard = f"{duration_text(max(0.0, one.age_s))} ago"
    return [f"{node.host} ({node.pid})", node.version, heard, _clock(state, one.skew_s), ", ".join(one.running)]


def _state(one: Seen) -> str:
    state = "lost" if not one.alive else "draining" if one.worker.draining else f"up {duration_text(one.up_s)}"
    return _clock(state, one.skew_s)


def _clock(state: str, skew_s: float) -> str:
    if abs(skew_s) < SKEW_S:
        return state
    side = "ahead" if skew_s > 0 else "behind"
    return f"{state}; its clock is {duration_text(abs(skew_s))} {side}"
