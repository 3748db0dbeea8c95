"""Everything of ours that runs left on a pool, each thing with its fate and the reason: pure.

A new kind of thing that a run makes or changes on a pool needs a key or text that names its run or job, a function in
:data:`FINDERS` here, and its removal in :data:`xobackup.engine.leftovers.clean.REMOVERS`. Nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from xobackup.engine import keys
from xobackup.engine.active import RESTORE
from xobackup.engine.leftovers.judge import Fate, Judge, Kind, Leftover, Record, Seen, map_of, named, text_of
from xobackup.engine.replication.settle import unfinished_run
from xobackup.engine.restore.records import IMPORTING
from xobackup.engine.restore.swap import swap_of
from xobackup.engine.taking.owed import mark_of

TASK_KEPT_S = 86400.0
"""XAPI itself forgets pending tasks after that long."""
ENDED = ("success", "failure", "cancelled")
AT_REST = ("Halted", "Suspended")


def find(seen: Seen) -> list[Leftover]:
    """Everything of ours but the bases of deltas, in the order in which it has to be removed."""
    judge = Judge(seen)
    return [found for finder in FINDERS for found in finder(judge)]


def _swaps(judge: Judge) -> Iterator[Leftover]:
    """VMs that got some of their restored disks."""
    for ref, vm in judge.seen.vms.items():
        swap = swap_of(map_of(vm, "other_config"), text_of(vm, "uuid"))
        if swap is None or vm.get("is_a_snapshot"):
            continue
        fate, reason = judge.fate(swap.run_id, ref, ended=Fate.REMOVE)
        yield Leftover(
            kind=Kind.SWAP,
            ref=ref,
            uuid=text_of(vm, "uuid"),
            what=f"disks of VM {named(vm)}, being restored in place; the others are on VM {swap.keeper}",
            vm_uuid=text_of(vm, "uuid"),
            run_id=swap.run_id,
            fate=fate,
            reason=reason,
        )


def _shutdowns(judge: Judge) -> Iterator[Leftover]:
    """VMs that a run had shut down and did not start again."""
    for ref, vm in judge.seen.vms.items():
        mark = mark_of(map_of(vm, "other_config"), text_of(vm, "uuid"))
        if mark is None or vm.get("is_a_snapshot"):
            continue
        fate, reason = judge.fate(mark.run_id, ref, ended=Fate.REMOVE)
        yield Leftover(
            kind=Kind.SHUTDOWN,
            ref=ref,
            uuid=text_of(vm, "uuid"),
            what=f"shutdown of VM {named(vm)} for its backup",
            vm_uuid=text_of(vm, "uuid"),
            run_id=mark.run_id,
            job_id=mark.job_id,
            fate=fate,
            reason=reason,
            key=str(mark),
        )


def _tasks(judge: Judge) -> Iterator[Leftover]:
    for ref, task in judge.seen.tasks.items():
        label = text_of(task, "name_label")
        run_id = keys.run_of_task(label)
        if not run_id:
            continue
        fate, reason = judge.anywhere(run_id)
        if fate is Fate.OPERATOR and task.get("status") in ENDED:
            continue  # nothing works on it, and XAPI forgets it within the hour
        age = judge.age_s(task.get("created"))
        if fate is Fate.OPERATOR and age is not None and age > TASK_KEPT_S:
            fate, reason = Fate.REMOVE, "nobody has heard of its run for a day"
        yield Leftover(
            kind=Kind.TASK,
            ref=ref,
            uuid=text_of(task, "uuid"),
            what=f'task "{label}"',
            run_id=run_id,
            age_s=age,
            fate=fate,
            reason=reason,
        )


def _attachments(judge: Judge) -> Iterator[Leftover]:
    """Disks of ours that a broken transfer left on a control domain. Only of runs that are known to be dead: anybody
    may export a snapshot of ours. Those of other snapshots go with the snapshot."""
    for vbd in judge.seen.vbds.values():
        vdi = judge.seen.vdis.get(text_of(vbd, "VDI"), {})
        config = map_of(vdi, "other_config")
        run_id = config.get(keys.RUN, "") or judge.seen.filled.get(text_of(vdi, "uuid"), "")
        if not run_id or not judge.is_control_domain(text_of(vbd, "VM")):
            continue
        vm_uuid = config.get(keys.VM, "")
        vm_ref = judge.vm_by_uuid.get(vm_uuid) or _maker(judge, run_id)
        fate, reason = judge.fate(run_id, vm_ref, ended=Fate.LIVES)
        if fate is Fate.REMOVE:
            yield Leftover(
                kind=Kind.ATTACHMENT,
                ref=text_of(vbd, "VDI"),
                uuid=text_of(vbd, "uuid"),
                what=f"disk {named(vdi)} on a control domain",
                vm_uuid=vm_uuid,
                run_id=run_id,
                fate=fate,
                reason=reason,
            )


def _snapshots(judge: Judge) -> Iterator[Leftover]:
    for ref, vm in judge.seen.vms.items():
        if not vm.get("is_a_snapshot"):
            continue
        config = map_of(vm, "other_config")
        if keys.COPY_OF in config:
            continue  # a restore point of a replica, or one that comes to rest with it
        job_id, run_id = keys.whose_temporary(text_of(vm, "name_label"))
        live = text_of(vm, "snapshot_of")
        if run_id:
            fate, reason = judge.fate(run_id, live, ended=Fate.REMOVE)
        elif config.get(keys.RUN) and config.get(keys.JOB) and not _is_complete(config):
            job_id, run_id = config[keys.JOB], config[keys.RUN]
            fate, reason = judge.fate(run_id, live, ended=Fate.JOB_DECIDES)
            if fate is not Fate.LIVES:
                fate, reason = Fate.JOB_DECIDES, "its export was not completed, or not noted; the next run of its job"
                reason += " removes it, or goes on from it if a remote has it"
        elif config.get(keys.RUN) and config.get(keys.JOB) and not _has_disks(judge, vm) and not _diskless(config):
            job_id, run_id = config[keys.JOB], config[keys.RUN]
            fate, reason = judge.at_rest(live) or (Fate.REMOVE, "its disks are gone already")
        else:
            continue
        yield Leftover(
            kind=Kind.SNAPSHOT,
            ref=ref,
            uuid=text_of(vm, "uuid"),
            what=f"snapshot {named(vm)} of VM {named(judge.seen.vms.get(live, {}))}",
            vm_uuid=judge.vm_uuid(live),
            run_id=run_id,
            job_id=job_id,
            age_s=judge.age_s(vm.get("snapshot_time")),
            fate=fate,
            reason=reason,
        )


def _replicas(judge: Judge) -> Iterator[Leftover]:
    """Replicas that a run has begun to write to, or to make."""
    for ref, vm in judge.seen.vms.items():
        run_id = unfinished_run(vm)
        if not run_id:
            continue
        marked = keys.RUN in map_of(vm, "other_config")
        fate, reason = judge.fate(run_id, ref, ended=Fate.REMOVE if marked else Fate.OPERATOR)
        if fate is Fate.REMOVE and vm.get("power_state") != "Halted":
            fate, reason = Fate.OPERATOR, f"its run was interrupted, but somebody made it {vm.get('power_state')}"
        yield Leftover(
            kind=Kind.REPLICA,
            ref=ref,
            uuid=text_of(vm, "uuid"),
            what=f"replication into VM {named(vm)}",
            vm_uuid=text_of(vm, "uuid"),
            run_id=run_id,
            fate=fate,
            reason=reason,
        )


def _has_disks(judge: Judge, vm: Record) -> bool:
    vbds = [judge.seen.vbds.get(ref, {}) for ref in vm.get("VBDs") or ()]
    return any(text_of(vbd, "VDI") in judge.seen.vdis for vbd in vbds)


def _diskless(config: Mapping[str, str]) -> bool:
    """It never had a disk."""
    return config.get(keys.DISKLESS) == "true"


def _is_complete(config: Mapping[str, str]) -> bool:
    """Its export ended well, or it stays for its own sake."""
    return "true" in (config.get(keys.EXPORTED), config.get(keys.KEPT))


def _vms(judge: Judge) -> Iterator[Leftover]:
    """VMs of restores that did not end."""
    for ref, vm in judge.seen.vms.items():
        run_id = _unfinished(judge, ref)
        if not run_id:
            continue
        fate, reason = judge.fate(run_id, ref, ended=Fate.OPERATOR)
        if fate is Fate.REMOVE and vm.get("power_state") not in AT_REST:
            fate, reason = Fate.OPERATOR, f"its restore was interrupted, but somebody made it {vm.get('power_state')}"
        yield Leftover(
            kind=Kind.VM,
            ref=ref,
            uuid=text_of(vm, "uuid"),
            what=f"VM {named(vm)} of an unfinished restore",
            vm_uuid=text_of(vm, "uuid"),
            run_id=run_id,
            fate=fate,
            reason=reason,
        )


def _unfinished(judge: Judge, vm_ref: str) -> str:
    """The restore that has not finished this VM; empty for any other VM.

    Its start is blocked until the last step, and then it has no claim any more. What XAPI makes of an archive has at
    first a claim only, and the marks of the snapshot that was archived.
    """
    vm = judge.seen.vms.get(vm_ref, {})
    if vm.get("is_a_snapshot"):
        return ""
    marked = map_of(vm, "other_config").get(keys.RUN, "")
    claimed = [one.run_id for one in judge.claims.get(vm_ref, {}).values() if one.kind == RESTORE]
    if map_of(vm, "blocked_operations").get("start") == IMPORTING:
        return next(iter(claimed), marked)
    return next((run_id for run_id in claimed if run_id != marked), "")


def _vdis(judge: Judge) -> Iterator[Leftover]:
    """Disks of restores that did not end. A copy that somebody made of a snapshot carries its marks, and is his."""
    memories = {text_of(vm, "suspend_VDI"): ref for ref, vm in judge.seen.vms.items()}
    for ref, vdi in judge.seen.vdis.items():
        config = map_of(vdi, "other_config")
        run_id = config.get(keys.RUN, "")
        if not run_id or vdi.get("is_a_snapshot"):
            continue
        holders = [text_of(judge.seen.vbds.get(vbd, {}), "VM") for vbd in vdi.get("VBDs") or ()]
        holders += [vm for vm, record in judge.seen.vms.items() if text_of(record, "suspend_VDI") == ref]
        holders = [vm for vm in (*holders, memories.get(ref, "")) if vm and not judge.is_control_domain(vm)]
        if holders and any(_unfinished(judge, vm) != run_id for vm in holders):
            continue  # a VM's that has nothing to do with the restore, or is whole
        maker = holders[0] if holders else _maker(judge, run_id)
        if not holders and (
            keys.JOB in config or keys.CONTENT_KEY in config or (maker and not _unfinished(judge, maker))
        ):
            continue
        fate, reason = judge.fate(run_id, maker, ended=Fate.OPERATOR)
        yield Leftover(
            kind=Kind.VDI,
            ref=ref,
            uuid=text_of(vdi, "uuid"),
            what=f"disk {named(vdi)} of an unfinished restore",
            vm_uuid=judge.vm_uuid(maker),
            run_id=run_id,
            fate=fate,
            reason=reason,
        )


def _health_checks(judge: Judge) -> Iterator[Leftover]:
    """VMs that a health check restored. One that is not restored yet is its restore's; a copy that somebody made of
    one has another uuid, and is his."""
    for ref, vm in judge.seen.vms.items():
        run_id, _, own = map_of(vm, "other_config").get(keys.HEALTH_CHECK, "").partition(" ")
        if not run_id or vm.get("is_a_snapshot") or _unfinished(judge, ref) or own not in ("", text_of(vm, "uuid")):
            continue
        fate, reason = judge.fate(run_id, ref, ended=Fate.REMOVE if own else Fate.OPERATOR)
        yield Leftover(
            kind=Kind.HEALTH_CHECK,
            ref=ref,
            uuid=text_of(vm, "uuid"),
            what=f"VM {named(vm)} of a health check or a test",
            vm_uuid=text_of(vm, "uuid"),
            run_id=run_id,
            fate=fate,
            reason=reason,
        )


def _maker(judge: Judge, run_id: str) -> str:
    """The VM that the restore makes."""
    return next((ref for ref, claims in judge.claims.items() if run_id in claims), "")


def _blocks(judge: Judge) -> Iterator[Leftover]:
    """Operations that a backup had blocked. Their text names the job; whether a run of it lives, the claims say."""
    for ref, vm in judge.seen.vms.items():
        for operation, text in map_of(vm, "blocked_operations").items():
            job_id = keys.job_of_blocked_text(text)
            if not job_id:
                continue
            runs = [one for one in judge.claims.get(ref, {}).values() if one.job_id == job_id]
            fates = [judge.of_claim(one) for one in runs]
            lives = next((one for one in fates if one[0] is Fate.LIVES), None)
            gone = (Fate.REMOVE, "no run of its job works on the VM")
            fate, reason = lives or next(iter(fates), gone)
            yield Leftover(
                kind=Kind.BLOCK,
                ref=ref,
                uuid=text_of(vm, "uuid"),
                what=f"block of {operation} on VM {named(vm)}",
                vm_uuid=text_of(vm, "uuid"),
                job_id=job_id,
                fate=fate,
                reason=reason,
                key=operation,
            )


def _marks(judge: Judge) -> Iterator[Leftover]:
    """Claims of dead runs, and marks of restores that were cut off after their last step. The last things to go."""
    for ref, vm in judge.seen.vms.items():
        config = map_of(vm, "other_config")
        found = [("claim", one.run_id, keys.CLAIM, judge.of_claim(one)) for one in judge.claims.get(ref, {}).values()]
        run_id = config.get(keys.RUN, "")
        if run_id and not vm.get("is_a_snapshot") and keys.JOB not in config and not _unfinished(judge, ref):
            found.append(("mark of a restore", run_id, keys.RUN, judge.fate(run_id, ref, ended=Fate.REMOVE)))
        for what, run_id, key, (fate, reason) in found:
            yield Leftover(
                kind=Kind.MARK,
                ref=ref,
                uuid=text_of(vm, "uuid"),
                what=f"{what} on VM {named(vm)}",
                vm_uuid=text_of(vm, "uuid"),
                run_id=run_id,
                fate=fate,
                reason=reason,
                key=key,
            )


FINDERS: tuple[Callable[[Judge], Iterator[Leftover]], ...] = (
    _swaps,
    _shutdowns,
    _tasks,
    _attachments,
    _snapshots,
    _replicas,
    _vdis,
    _vms,
    _health_checks,
    _blocks,
    _marks,
)
"""In the order of removal: a VM gets its disks back before it is started; disks before the VM that leads to them,
marks last, they lead to everything else.
"""
