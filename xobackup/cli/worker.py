"""``xobackup worker``: do VMs that control nodes give out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.serving.signals import Signals
from xobackup.texts import count_text

if TYPE_CHECKING:
    from types import FrameType

    from xobackup.workers.worker import WorkerProcess

SLOTS = 4
LINGER_LOOK_S = 0.25
"""Between two looks whether others are still led through here."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


SiteOption = Annotated[
    str | None,
    typer.Option("--site", help="Where this worker is: it does VMs whose pools and remotes name this site.",
                 show_default="[engine] site"),
]  # fmt: skip
SlotsOption = Annotated[int, typer.Option("--slots", min=1, max=256, help="VMs at a time.")]


def worker(
    site: SiteOption = None, slots: SlotsOption = SLOTS, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Do VMs of other machines' runs, by the [engine] database. SIGTERM: end those begun; again: stop them."""
    from xobackup.cli.engine_store import opened_board, reach_of
    from xobackup.cli.errors import Outcome
    from xobackup.cli.logs import JSON, TEXT, Lines
    from xobackup.cli.relaying import relaying
    from xobackup.cli.worker_tasks import tasks_of
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.config.sites import checked_site
    from xobackup.engine.run import version
    from xobackup.engine.world import real_world
    from xobackup.workers.kinds import KINDS, OTHERS
    from xobackup.workers.records import Worker
    from xobackup.workers.shares import SharedRates
    from xobackup.workers.worker import WorkerProcess

    configuration = read_configuration(config)
    try:
        where = checked_site(site) if site is not None else configuration.engine.site or ""
    except ValueError as error:
        raise ConfigError([f"--site: {error}"]) from error
    configuration = configuration.model_copy(
        update={"engine": configuration.engine.model_copy(update={"site": where or None})}
    )
    log = Lines(JSON if as_json else configuration.log.format or TEXT, to_stdout=as_json)
    clock = SystemClock()
    new_id = real_world(configuration.state_directory, clock=clock).new_id
    with ExitStack() as running:
        board = running.enter_context(opened_board(configuration))
        me = Worker(
            id=new_id(),
            site=where,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version(),
            slots=slots,
            reach={**reach_of(configuration, where), KINDS: list(OTHERS)},
        )

        def say(told: str) -> None:
            log("info", told)

        def linger() -> None:
            """Others may still be led through here."""
            while way.busy and not signals.twice:
                clock.sleep(LINGER_LOOK_S)

        rates = SharedRates(board, me.id, clock, goes_on=False)
        way = running.enter_context(relaying(configuration, board, me.id, where, say))
        do, others = tasks_of(configuration, board, me.id, rates, way)
        process = WorkerProcess(
            board,
            me,
            do,
            others=others,
            clock=clock,
            new_id=new_id,
            log=say,
            linger=linger,
        )
        signals = _Stops(process, say)
        with signals.held():
            names = [name for kind, reached in me.reach.items() if kind != KINDS for name in reached]
            who = f"worker {me.id}{f' of site {where}' if where else ''}"
            log("info", f"{who} does {count_text(slots, 'VM')} at a time; reaches {', '.join(names) or 'nothing'}")
            rates.start()
            running.callback(rates.close)
            process.serve(signals.stop.is_set)
        log("info", "drained")
    if signals.twice:
        raise Outcome(Exit.TERMINATED, "stopped VMs that were under way; others take them over")


class _Stops(Signals):
    """The first signal drains, the second one stops what is under way."""

    def __init__(self, process: WorkerProcess, log: Callable[[str], None]) -> None:
        super().__init__()
        self.twice = False
        self._process = process
        self._log = log

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again = self.stop.is_set()
        super()._stop(number, frame)
        if again:
            self.twice = True
            self._process.stop_all(f"stopped by {self.why}")
        else:
            self._log(f"{self.why}: draining, {count_text(self._process.going, 'VM')} under way")
