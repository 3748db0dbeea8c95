"""After a restore point is published: old snapshots off the pool, old points off the remotes, merges."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schedules import retention
from vhd.block import BLOCK_BYTES
from xobackup.engine import events
from xobackup.engine.cancel import CancelToken
from xobackup.engine.held import held_told
from xobackup.engine.job import FULL
from xobackup.engine.limits.turnstile import Turnstile, srs_of
from xobackup.engine.placing.counting import judge_over_all
from xobackup.engine.prune import Group, groups_of, judge
from xobackup.engine.removal import remove_snapshot
from xobackup.engine.taking.taken import vdis_of
from xobackup.engine.target import Target
from xobackup.engine.view import VmView
from xobackup.repository.pins import PINNED
from xobackup.repository.reclaim import BROKEN
from xobackup.repository.withholding import HELD, NOT_MERGED
from xobackup.xapi.errors import NotFound, XapiError

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.repository.merging import MergeProgress


def remove_served_snapshots(
    context: RunContext,
    vm: VmView,
    tips: Mapping[str, Iterable[str]],
    *,
    missed: Collection[str],
    warn: Callable[[str], None],
) -> int:
    """Remove the job's snapshots that have served; returns how many stay.

    ``missed``: remotes that took no part in this run. They end with the newest snapshot that was noted as published
    there.
    """
    groups = groups_of(vm, context.job.id)
    turnstile, srs = Turnstile(context, vm=vm.uuid, name=vm.name), srs_of(disk.sr for disk in vm.disks)
    known = dict(tips)
    for remote in missed:
        last = next((group for group in groups if any(remote in disk.remotes for disk in group.disks)), None)
        known[remote] = [disk.vdi_uuid for disk in last.disks] if last else []
    settings = context.job.settings
    needs_bases = (bool(context.job.destinations) and settings.mode != FULL) or context.job.siblings.need_bases
    verdicts = judge(
        groups,
        tips=known,
        bases_max=settings.bases_max if needs_bases else 0,
        rolling=settings.snapshot_retention,
        rolling_of=context.job.siblings.snapshot_retention,
    )
    for verdict in verdicts:
        if verdict.keep:
            continue
        try:
            with turnstile.deletion(srs, context.world.cancel):
                _remove(context, verdict.group)
        except XapiError as error:
            warn(f"the snapshot of {verdict.group.datetime} stays on the pool for now: {error}")
            continue
        event = events.SnapshotRemoved(vm=vm.uuid, snapshot=verdict.group.datetime, reason=verdict.reason)
        context.world.journal.write(event)
    return sum(verdict.keep for verdict in verdicts)


def _remove(context: RunContext, group: Group) -> None:
    vdis: dict[str, dict[str, Any]] = {}
    for disk in group.disks:
        try:
            vdis[disk.vdi_ref] = context.session.record("VDI", disk.vdi_ref)
        except NotFound:
            continue
    if group.vm_snapshot_ref:
        with contextlib.suppress(NotFound):
            vdis.update(vdis_of(context.session, group.vm_snapshot_ref))
    remove_snapshot(context.session, group.vm_snapshot_ref, vdis)


def expire_points(
    context: RunContext,
    vm: VmView,
    target: Target,
    cancel: CancelToken,
    warn: Callable[[str], None],
    *,
    elsewhere: Iterable[retention.Entry] = (),
) -> int:
    """Apply retention to one remote and reclaim its disks; returns the blocks that were merged. ``elsewhere``: points
    on other remotes that count too."""
    world, job = context.world, context.job
    verdicts = _verdicts(context, vm, target, list(elsewhere))
    old = retention.expired(verdicts)
    if old:
        target.delete_points([entry.id for entry in old])
        reason = next(verdict.reason for verdict in verdicts if not verdict.keep)  # of all of them
        event = events.PointsExpired(
            vm=vm.uuid, remote=target.name, points=[entry.id for entry in old], reason=reason
        )
        world.journal.write(event)
    if not job.settings.merge_in_run:
        return 0
    return merge_target(context, vm, target, cancel, warn)


def _verdicts(
    context: RunContext, vm: VmView, target: Target, elsewhere: Sequence[retention.Entry]
) -> list[retention.Verdict]:
    """What retention keeps, and what a lock keeps besides, and what must stay with that; the latter two are told."""
    job, now_ms = context.job, round(context.world.clock.now_s() * 1000)
    entries = target.entries(job.id, job.schedule_id, mode=job.settings.mode)
    rule = replace(job.settings.rule, newest=target.keep or job.settings.rule.newest)

    def judge(pins: Mapping[str, str]) -> tuple[list[retention.Verdict], list[str]]:
        verdicts = judge_over_all(entries, elsewhere, rule, now_ms=now_ms, pins=pins)
        return verdicts, [entry.id for entry in retention.expired(verdicts)]

    verdicts, old = judge({})
    held = target.held(old)
    pins = {point: str(one) for point, one in held.items()}
    if held:
        verdicts, old = judge(pins)
    needed = sorted(target.needed(old))
    if not held and not needed:
        return verdicts
    reasons = [held_told(held.values())] if held else []
    if needed:
        reasons.append(f"{', '.join(needed)} must stay as long as those that build on it: {NOT_MERGED}")
    points = sorted([*held, *needed])
    endless = any(one.until_s is None and not one.how.startswith(PINNED) for one in held.values())
    event = events.HeldByLock(
        vm=vm.uuid,
        remote=target.name,
        points=points,
        reason="; ".join(reasons),
        code="endless" if endless else "",
    )
    context.world.journal.write(event)
    return judge({**pins, **dict.fromkeys(needed, NOT_MERGED)})[0]


def merge_target(
    context: RunContext, vm: VmView, target: Target, cancel: CancelToken, warn: Callable[[str], None]
) -> int:
    """Reclaim what no restore point needs on one remote; returns the blocks that were moved."""
    world = context.world
    began_s = world.clock.monotonic_s()
    meter = world.progress.meter(f"{vm.name} on {target.name}", stage="merge")
    seen: dict[tuple[str, ...], int] = {}

    def progress(told: MergeProgress) -> None:
        key = (told.lineage, *told.chain)
        if key not in seen:
            meter.begin("merge", total_bytes=told.blocks_total * BLOCK_BYTES)
        meter.add((told.blocks_done - seen.get(key, 0)) * BLOCK_BYTES)
        seen[key] = told.blocks_done

    try:
        report = target.merge(progress, cancel=cancel.check)
    finally:
        world.progress.drop(meter)
    for refusal in report.refusals:
        if refusal.code == HELD:  # nothing is wrong
            event = events.HeldByLock(vm=vm.uuid, remote=target.name, points=[], reason=refusal.reason)
            world.journal.write(event)
            continue
        warn(f"{target.name}: {refusal.lineage} was not merged: {refusal.reason}")
        if refusal.code == BROKEN:
            damage = events.Examined(
                uuid=vm.uuid,
                name=vm.name,
                remote=target.name,
                what="blocks",
                damage=refusal.reason,
                whole=False,
            )
            world.journal.write(damage)
    if report.merges:
        merged = events.Merged(
            vm=vm.uuid,
            remote=target.name,
            disks=report.merges,
            blocks=report.bytes_moved // BLOCK_BYTES,
            moved_bytes=report.bytes_moved,
            duration_s=world.clock.monotonic_s() - began_s,
        )
        world.journal.write(merged)
    return report.bytes_moved // BLOCK_BYTES
