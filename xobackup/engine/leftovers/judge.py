"""What a look at a pool and what is known of runs say about a thing: is its run alive? Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xobackup.engine.leftovers.claim import Claimed, claims_of
from xobackup.xapi.values import NULL_REF, parse_time

Record = dict[str, Any]


class Kind(StrEnum):
    """What was left."""

    SHUTDOWN = "shutdown"
    """A VM that was shut down for its backup: to remove it is to start the VM."""
    TASK = "task"
    ATTACHMENT = "attachment"
    SNAPSHOT = "snapshot"
    VM = "vm"
    VDI = "vdi"
    BLOCK = "block"
    REPLICA = "replica"
    """A replica that a run did not finish."""
    HEALTH_CHECK = "health-check"
    """The VM that a health check had restored."""
    SWAP = "swap"
    """A VM whose disks a restore in place had begun to exchange: to remove it is to put them back."""
    MARK = "mark"


class Fate(StrEnum):
    """What happens to it."""

    REMOVE = "remove"
    """Certain: the next start of a command that writes to the pool removes it."""
    LIVES = "lives"
    """Its run is alive, or may be."""
    JOB_DECIDES = "job-decides"
    """The next run of its job removes it or goes on from it: only that knows what the remotes have."""
    OPERATOR = "operator"
    """It looks like a leftover, but nothing proves that its run is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One thing on a pool that names a run or job of ours."""

    kind: Kind
    ref: str
    uuid: str
    what: str
    """In words, its own name included."""
    vm_uuid: str = ""
    """The VM it belongs to."""
    run_id: str = ""
    job_id: str = ""
    age_s: float | None = None
    fate: Fate
    reason: str
    key: str = ""
    """The blocked operation, or the key of ``other_config``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A pool, and what is known of runs. Read the records in the order task, VDI, VBD, VM: a run claims a VM before
    it makes anything, so a thing that was seen had its claim before, and a claim that is missing afterwards is over.
    """

    tasks: Mapping[str, Record]
    vdis: Mapping[str, Record]
    vbds: Mapping[str, Record]
    vms: Mapping[str, Record]
    now_s: float
    """By the pool's clock."""
    dead: Mapping[str, str] = field(default_factory=dict)
    """Runs that are known to be over, and why."""
    living: Collection[str] = ()
    """Runs that work on this machine right now."""
    filled: Mapping[str, str] = field(default_factory=dict)
    """Existing VDIs (uuid) that a run of this machine was overwriting: they carry no key of ours."""


class Judge:
    """What is alive: indexes of one look at a pool."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.claims: dict[str, dict[str, Claimed]] = {}
        """By VM reference, then run."""
        self.vm_by_uuid: dict[str, str] = {}
        for ref, vm in seen.vms.items():
            if not vm.get("is_a_snapshot"):
                self.claims[ref] = claims_of(map_of(vm, "other_config"))
                self.vm_by_uuid[text_of(vm, "uuid")] = ref

    def fate(self, run_id: str, vm_ref: str, *, ended: Fate) -> tuple[Fate, str]:
        """What becomes of a thing of that run on that VM; ``ended``: when there is no claim (any more)."""
        if run_id in self.seen.dead:
            return Fate.REMOVE, self.seen.dead[run_id]
        if run_id in self.seen.living:
            return Fate.LIVES, "its run works on this machine right now"
        claimed = self.claims.get(vm_ref, {}).get(run_id)
        if claimed is not None:
            return self.of_claim(claimed)
        if ended is Fate.REMOVE:
            return ended, "its run has ended and could not remove it"
        return ended, "nothing says whether its run is over"

    def of_claim(self, claimed: Claimed) -> tuple[Fate, str]:
        age = claimed.age_s(self.seen.now_s)
        who = f"its run on {claimed.host or 'a host that is not named'}"
        if claimed.run_id in self.seen.dead:
            return Fate.REMOVE, self.seen.dead[claimed.run_id]
        if claimed.run_id in self.seen.living:
            return Fate.LIVES, "its run works on this machine right now"
        if claimed.is_fresh(self.seen.now_s):
            told = "" if age is None else f", {max(0, int(age // 60))} min ago"
            return Fate.LIVES, f"{who} may be alive: it said so on the VM{told}"
        assert age is not None
        return Fate.REMOVE, f"{who} died: it last said on the VM that it lives {int(age // 60)} min ago"

    def at_rest(self, vm_ref: str) -> tuple[Fate, str] | None:
        """``None`` when no run works on the VM; else why it is not to be touched."""
        fates = [self.of_claim(one) for one in self.claims.get(vm_ref, {}).values()]
        return next((one for one in fates if one[0] is Fate.LIVES), None)

    def anywhere(self, run_id: str) -> tuple[Fate, str]:
        """The same for a thing that belongs to no VM."""
        fate, reason = self.fate(run_id, "", ended=Fate.OPERATOR)
        claimed = [claims[run_id] for claims in self.claims.values() if run_id in claims]
        if fate is not Fate.OPERATOR or not claimed:
            return fate, reason
        fates = [self.of_claim(one) for one in claimed]
        return next((one for one in fates if one[0] is Fate.LIVES), fates[0])

    def age_s(self, moment: object) -> float | None:
        parsed = parse_time(moment)
        return None if parsed is None or parsed.timestamp() <= 0 else max(0.0, self.seen.now_s - parsed.timestamp())

    def vm_uuid(self, ref: str) -> str:
        return text_of(self.seen.vms.get(ref, {}), "uuid")

    def is_control_domain(self, ref: str) -> bool:
        return bool(self.seen.vms.get(ref, {}).get("is_control_domain"))


def text_of(record: Mapping[str, Any], field: str) -> str:
    """A field that is text; empty when it is not, or the null reference."""
    value = record.get(field, "")
    return value if isinstance(value, str) and value != NULL_REF else ""


def map_of(record: Mapping[str, Any], field: str) -> dict[str, str]:
    """A field that is a map; empty when it is not."""
    value = record.get(field)
    return value if isinstance(value, dict) else {}


def named(record: Mapping[str, Any]) -> str:
    """An object in words."""
    name, uuid = text_of(record, "name_label"), text_of(record, "uuid")
    return f"{name} ({uuid})" if name and uuid else uuid or "that is gone"
