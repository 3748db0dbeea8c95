"""What a pool itself sees of those that back up its VMs: who says that he works on which VM, at every snapshot."""

from __future__ import annotations

from xobackup.engine.leftovers.claim import claims_of
from xobackup.simpool import SimPool
from xobackup.simpool.faults import FOREVER


class PoolWatch:
    """Looks from now on; what else shall happen at snapshots is planned before: the first plan that matches acts."""

    def __init__(self, pool: SimPool) -> None:
        self._pool = pool
        self.seen: list[dict[str, set[str]]] = []
        pool.faults.act_at("*VM.snapshot", self._look, times=FOREVER)

    def _look(self) -> None:
        vms = self._pool.model.records("VM").values()
        claims = {vm["name_label"]: set(claims_of(vm["other_config"])) for vm in vms if not vm["is_a_snapshot"]}
        self.seen.append({name: found for name, found in claims.items() if found})

    def check(self, dead: set[str]) -> None:
        """Never two at a time on one VM; ``dead``: runs whose process was killed, or stopped by its lease."""
        assert self.seen
        for seen in self.seen:
            for vm, runs in seen.items():
                assert len(runs - dead) <= 1, (vm, runs, dead)
