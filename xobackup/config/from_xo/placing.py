"""On which pool a VM of a pattern is: every pool gets the part of the formula that means its VMs.

Xen Orchestra's jobs span pools, ours have one. The exported file knows neither the pools' uuids nor their VMs; the
REST API does, and so does who runs the command (``UUID=SERVER``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xobackup.config.from_xo.patterns import Atom, Formula, Inexpressible, decided
from xobackup.config.from_xo.records import Place
from xobackup.config.from_xo.remarks import plain
from xobackup.config.from_xo.servers import Pool

ASK = "give --url too, so that they can be looked up, or --pool UUID=SERVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """What is known. ``said`` is the operator's: our name of a pool by the uuid of a pool or of a VM."""

    pools: tuple[Pool, ...]
    vms: Mapping[str, Place] | None = None
    said: Mapping[str, str] = field(default_factory=dict)

    def owner(self, pool_uuid: str) -> str | None:
        """Our name for a pool; ``None`` when it is none of ours; raises :class:`Inexpressible` when nobody knows."""
        if pool_uuid in self.said:
            return self.said[pool_uuid]
        named = next((pool.name for pool in self.pools if pool.uuid == pool_uuid), None)
        if named is not None:
            return named
        unknown = [pool for pool in self.pools if not pool.uuid and pool.name not in self.said.values()]
        if not unknown:
            return None
        if len(self.pools) == 1:
            return self.pools[0].name
        raise Inexpressible(f"which of the servers is pool {plain(pool_uuid, most=60)}? {ASK}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The formula of every pool in which VMs may fit, and what of it is nowhere."""

    formulas: Mapping[str, Formula]
    gone: tuple[str, ...]


def place(formula: Formula, known: Map) -> Placed:
    """Split ``formula`` by pools. Raises :class:`~.patterns.Inexpressible`."""
    gone: dict[str, None] = {}

    def pool_of(atom: Atom) -> str | None:
        if atom.key == "pool":
            found = known.owner(atom.value)
            if found is None:
                gone[f"pool {plain(atom.value, most=60)}"] = None
            return found
        found = _pool_of_vm(atom.value, known)
        if found is None:
            gone[f"VM {plain(atom.value, most=60)}"] = None
        return found

    owners: dict[Atom, str | None] = {}
    formulas: dict[str, Formula] = {}
    for pool in known.pools:

        def decide(atom: Atom, pool: Pool = pool) -> bool | None:
            if atom.key not in ("pool", "uuid"):
                return None
            if atom not in owners:
                owners[atom] = pool_of(atom)
            here = owners[atom] == pool.name
            return here if atom.key == "pool" or not here else None

        formulas[pool.name] = decided(formula, decide)
    return Placed(formulas=formulas, gone=tuple(gone))


def _pool_of_vm(uuid: str, known: Map) -> str | None:
    if uuid in known.said:
        return known.said[uuid]
    if known.vms is None:
        if len(known.pools) == 1:
            return known.pools[0].name
        raise Inexpressible(f"on which of the servers is VM {plain(uuid, most=60)}? {ASK}")
    found = known.vms.get(uuid)
    return None if found is None else known.owner(found.pool_uuid)
