"""One VM's restore points to one target, as a part of a run: told to its journal, and summed up for its report.

It is done by the process that conducts the run, or by a worker that was given it; both call :func:`copy_vm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from remotes.errors import RemoteError
from xobackup.engine import events
from xobackup.engine.errors import Cancelled, EngineError
from xobackup.engine.mirror.copy import VmMirror, VmMirrored, Wish
from xobackup.repository.errors import LockHeld, RepositoryError

if TYPE_CHECKING:
    from xobackup.engine.limits.gates import Gate
    from xobackup.engine.progress import Meter
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository

MIRROR = "mirror"
MIRROR_ERRORS = (RemoteError, RepositoryError, EngineError, OSError)
"""What ends the copying of one VM to one target, and keeps no other from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmCopied:
    """What became of it. ``point``: the newest that was copied. ``stopped``: why not all of it was tried."""

    size_bytes: int = 0
    fulls: int = 0
    deltas: int = 0
    point: str = ""
    warnings: tuple[str, ...] = field(default=())
    errors: tuple[str, ...] = field(default=())
    locked: bool = False
    stopped: str = ""


def copy_vm(
    world: World, wish: Wish, *, source: tuple[str, Repository], target: tuple[str, Repository], vm: str, name: str
) -> VmCopied:
    """``source``, ``target``: with their names. Never raises for what happens to the VM or the remotes."""
    to = target[0]
    phase = f"copy to {to}"[:32]
    world.journal.write(events.PhaseBegan(vm=vm, phase=phase))
    since_s = world.clock.monotonic_s()
    error = ""
    meter = world.progress.meter(name, stage=MIRROR)
    try:
        limited = world.limits.copying(source[0], to, world.clock)
        turn = partial(_turn, world, world.limits.link_gates([source[0], to]), meter)
        copying = VmMirror(
            source[1], target[1], vm, wish, clock=world.clock, cancel=world.cancel, throttle=limited, turn=turn
        )
        done = copying.run(meter)
        error = next(iter(done.failed.values()), "")
        return _note(world, done, name, source[0], to)
    except Cancelled as stopped:
        error = str(stopped)
        return VmCopied(stopped=error)
    except MIRROR_ERRORS as failed:
        error = f"{to}: {failed}"
        hint = str(getattr(failed, "hint", "") or "")
        kind = type(failed).__name__
        world.journal.write(events.Failed(vm=vm, remote=to, error=error, error_class=kind, hint=hint))
        return VmCopied(errors=(error,), locked=isinstance(failed, LockHeld))
    finally:
        world.progress.drop(meter)
        spent_s = world.clock.monotonic_s() - since_s
        world.journal.write(events.PhaseEnded(vm=vm, phase=phase, ok=not error, duration_s=spent_s, error=error))


@contextmanager
def _turn(world: World, gates: tuple[Gate, ...], meter: Meter) -> Iterator[None]:
    """A place on the lines between sites that are crossed; what is waited for is on the meter."""
    with world.limits.room.through(gates, world.cancel, told=meter.note):
        meter.note("")
        yield


def _note(world: World, done: VmMirrored, name: str, source: str, target: str) -> VmCopied:
    """What became of it, into the journal."""
    vm, write = done.vm, world.journal.write
    warnings, errors = [], []
    for identity, copied in done.copied.items():
        write(events.PointPublished(vm=vm, remote=target, point=identity, size_bytes=copied.size_bytes))
        for reason in copied.fulls:
            warnings.append(f"{target}: {identity}: full, {reason}")
            write(events.Warned(vm=vm, remote=target, message=f"{identity}: full, {reason}"))
    if done.deleted:
        reason = "the job's retention at the target"
        write(events.PointsExpired(vm=vm, remote=target, points=done.deleted, reason=reason))
    for note in done.notes:
        warnings.append(f"{target}: {note}")
        write(events.Warned(vm=vm, remote=target, message=note))
    for identity, error in done.failed.items():
        told = f"{target}: {identity}: {error}" if identity else f"{target}: {error}"
        errors.append(told)
        write(events.Failed(vm=vm, remote=target, error=told, error_class="Mirror"))
    if done.damaged:
        identity, damage = next(iter(done.damaged.items()))
        found = f"restore point {identity} cannot be copied: {damage}"
        write(events.Examined(uuid=vm, name=name, remote=source, what="blocks", damage=found, whole=False))
    return VmCopied(
        size_bytes=sum(one.size_bytes for one in done.copied.values()),
        fulls=sum(len(one.fulls) for one in done.copied.values()),
        deltas=sum(not one.fulls for one in done.copied.values()),
        point=max(done.copied, default=""),
        warnings=tuple(warnings),
        errors=tuple(errors),
    )
