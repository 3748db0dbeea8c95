"""Who backed up which VM when, by a pool's own log: snapshots and exports as the pool saw them, by run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from xobackup.engine import keys
from xobackup.simpool import SimPool
from xobackup.simpool.faults import FOREVER


@dataclass(frozen=True, order=True)
class Deed:
    """One snapshot or export. Times are the pool's, in seconds."""

    began_s: float
    ended_s: float
    vm: str
    run: str
    what: str


@dataclass(kw_only=True)
class Witness:
    """Of one pool, from now on."""

    pool: SimPool
    _of_disk: dict[str, tuple[str, str]] = field(default_factory=dict)
    """VM and run, by the reference of a snapshot's disk."""

    def __post_init__(self) -> None:
        self.pool.faults.act_at("GET /export_raw_vdi", self._look, times=FOREVER)

    def _look(self) -> None:
        """Snapshots are destroyed later: whose disk an export asked for is known now."""
        model = self.pool.model
        with model.lock:
            for snapshot in model.records("VM").values():
                run = snapshot["other_config"].get(keys.RUN, "")
                if not snapshot["is_a_snapshot"] or not run:
                    continue
                name = model.get("VM", snapshot["snapshot_of"])["name_label"]
                for vbd in snapshot["VBDs"]:
                    self._of_disk[model.get("VBD", vbd)["VDI"]] = (name, run)

    def deeds(self) -> list[Deed]:
        """In the order in which they began."""
        found = []
        names = {ref: one["name_label"] for ref, one in self.pool.model.records("VM").items()}
        for entry in self.pool.toolstack.journal.entries("*VM.snapshot"):
            run = str(entry.args[2]).split()[-1]
            found.append(self._deed(entry, names[str(entry.args[1])], run, "snapshot"))
        for entry in self.pool.toolstack.journal.entries("GET /export_raw_vdi"):
            if str(entry.args[0]) in self._of_disk:
                found.append(self._deed(entry, *self._of_disk[str(entry.args[0])], "export"))
        return sorted(found)

    def _deed(self, entry: Any, vm: str, run: str, what: str) -> Deed:
        return Deed(entry.at_s, entry.at_s + entry.duration_s, vm, run, what)


def at_once(deeds: list[Deed], lost: set[str]) -> list[str]:
    """Where a VM was backed up twice at once, as sentences. A run that is ``lost`` (its worker or its line died, and
    another took over) may have left the pool with an export that nobody reads; begin anything it may not."""
    told = []
    for vm, mine in itertools.groupby(sorted(deeds, key=lambda one: one.vm), key=lambda one: one.vm):
        runs: dict[str, list[Deed]] = {}
        for deed in sorted(mine):
            runs.setdefault(deed.run, []).append(deed)
        for one, other in itertools.pairwise(runs.values()):
            if one[-1].began_s > other[0].began_s:
                told.append(f"{vm}: run {one[0].run} began {one[-1].what} after run {other[0].run} had begun")
            if one[0].run not in lost and max(deed.ended_s for deed in one) > other[0].began_s:
                told.append(f"{vm}: run {other[0].run} began before run {one[0].run} had ended")
    return told
