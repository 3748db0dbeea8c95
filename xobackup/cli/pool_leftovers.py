"""What runs left on a pool, for a person: what ``clean --pool`` and ``doctor`` show."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import read_configuration
from xobackup.cli.output import Output
from xobackup.texts import duration_text

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.leftovers.judge import Leftover
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

WILL = {
    "remove": "is removed at the next start",
    "lives": "stays",
    "job-decides": "is left to its job",
    "operator": "stays until you say that its run is over",
}
"""By :class:`xobackup.engine.leftovers.judge.Fate`."""


def leftovers_of(configuration: Configuration, world: World, session: Session, over: Sequence[str]) -> list[Leftover]:
    """Everything of ours on the pool but the bases of deltas."""
    from xobackup.cli.jobs import job_of
    from xobackup.engine.leftovers.clean import leftovers

    pool = next(iter(session.records("pool").values()), {})
    jobs = {job_of(configuration, name, with_secrets=False).id for name in configuration.job_names}
    return leftovers(world, session, str(pool.get("uuid", "")), jobs=jobs, over=over)


def clean_pool(output: Output, config: Path | None, name: str, *, over: Sequence[str], apply: bool) -> None:
    """List the leftovers on the pool called ``name``; ``apply``: remove those whose run is certainly over.

    ``over``: runs that the operator knows to be over.
    """
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.live import world_of
    from xobackup.engine.journal import MemoryJournal
    from xobackup.engine.leftovers.clean import clean

    configuration = read_configuration(config)
    with (
        world_of(output, configuration.state_directory) as world,
        contextlib.closing(world.connect(pool_address(configuration, name))) as session,
    ):
        found = leftovers_of(configuration, world, session, over)
        certain = [one for one in found if one.fate == "remove"]
        others = [one for one in found if one.fate != "remove"]
        if apply:
            done, left = clean(session, certain, MemoryJournal())
            show(output, name, "removed", done)
            show(output, name, "failed", [one for one, _ in left])
        else:
            show(output, name, "found", certain)
            left = []
        show(output, name, "kept", others)
    if not found:
        output.say(f"nothing of a backup was left on pool {name}", style="green")
    elif not apply and certain:
        output.say("nothing was touched; add --apply to remove what can be")
    if left:
        raise Outcome(Exit.SOME_FAILED, f"pool {name} does not let go of everything: {left[0][1]}")


def show(output: Output, pool: str, state: str, found: Sequence[Leftover]) -> None:
    """Each leftover with what becomes of it."""
    for one in found:
        age = None if one.age_s is None else round(one.age_s)
        output.record(
            "leftover",
            {
                "pool": pool,
                "state": state,
                "what": one.what,
                "thing": one.kind.value,
                "uuid": one.uuid,
                "vm": one.vm_uuid,
                "run": one.run_id,
                "job": one.job_id,
                "age_s": age,
                "fate": one.fate.value,
                "reason": one.reason,
            },
        )
        output.say(told(one, state), style="red" if state == "failed" else None)


def told(one: Leftover, state: str) -> str:
    """One leftover in a line."""
    words = {"found": "would remove", "removed": "removed", "failed": "could not remove", "kept": "kept"}[state]
    age = "" if one.age_s is None else f", {duration_text(one.age_s)} old"
    run = f" (run {one.run_id})" if one.run_id and one.fate.value == "operator" else ""
    return f"{words} {one.what}{age}: {one.reason}{run}"
