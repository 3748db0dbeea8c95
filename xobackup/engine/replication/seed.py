"""What a target's pool still has of a disk whose copy comes home: a snapshot from which the first delta starts.

A VM that was failed over is a clone of a restore point of its replica, and that restore point has the content of a
snapshot of the original (its content key). Where that snapshot survives, both pools have the same bytes, and only
what was written since has to travel. The snapshot is cloned, never written to. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xobackup.engine.restore.differential import refuse_base

if TYPE_CHECKING:
    from xobackup.engine.replication.points import Records
    from xobackup.engine.view import PoolSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """``kin``: the snapshot on the source's side whose content it has. ``problem``: why it cannot be started from."""

    kin: PoolSnapshot
    ref: str
    virtual_size_bytes: int
    problem: str = ""


def seed_of(kin: Iterable[PoolSnapshot], records: Records, *, srs: Collection[str]) -> Seed | None:
    """The first that can be used; else the first that is there at all; ``None`` when nothing of it is.

    ``records``: of the target's pool; ``srs``: uuids of the SRs on which disks may be.
    """
    by_uuid = {str(vdi.get("uuid")): ref for ref, vdi in records["VDI"].items()}
    found: list[Seed] = []
    for one in kin:
        ref = by_uuid.get(one.content_key)
        if ref is not None:
            size_bytes = int(records["VDI"][ref].get("virtual_size") or 0)
            problem = _problem(records, ref, one.content_key, srs)
            found.append(Seed(kin=one, ref=ref, virtual_size_bytes=size_bytes, problem=problem))
    return next((seed for seed in found if not seed.problem), next(iter(found), None))


def _problem(records: Records, ref: str, uuid: str, srs: Collection[str]) -> str:
    vdi = records["VDI"][ref]
    sr = str(records["SR"].get(str(vdi.get("SR")), {}).get("uuid", ""))
    if sr not in srs:
        return f"snapshot {uuid}, which it continues, is on SR {sr}"
    holders = [
        records["VM"].get(str(records["VBD"].get(str(vbd), {}).get("VM")), {}) for vbd in vdi.get("VBDs") or ()
    ]
    size_bytes = int(vdi.get("virtual_size") or 0)
    told = refuse_base(vdi, sr_ref=str(vdi.get("SR")), size_bytes=size_bytes, holders=holders)
    return f"snapshot {uuid}, which it continues: {told}" if told else ""
