"""A VM's part of a mirror, done by a worker with its own configuration; and the list of a source's VMs.

The worker opens the target itself, and the source too when it reaches it; else it reads the source through the relay
that its order names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xobackup.engine import events
from xobackup.engine.errors import Cancelled
from xobackup.engine.mirror.copy import refuse_same
from xobackup.engine.mirror.job import mirrored_vms
from xobackup.engine.mirror.one import MIRROR_ERRORS, VmCopied, copy_vm
from xobackup.repository.repository import Repository
from xobackup.workers.errors import WorkersError
from xobackup.workers.kinds import MIRROR, MIRROR_LIST
from xobackup.workers.wire import copied_data, read_list_order, read_mirror_order

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.journal import Sink
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.world import World
    from xobackup.relay.remote import RelayRemote
    from xobackup.workers.worker import Other


class MirrorTask:
    """Does such orders. :class:`WorkersError` is for what is wrong with us."""

    def __init__(
        self,
        *,
        job_of: Callable[[str], MirrorJob],
        fingerprint: Callable[[str], str],
        world_of: Callable[[Sink, CancelToken], World],
        led: Callable[[str, str, CancelToken], RelayRemote],
    ) -> None:
        """``job_of``: a mirror of this worker's configuration, by name, with the secrets of what it reaches. ``led``:
        the remote of that name as it is read through a relay of that site."""
        self._job_of = job_of
        self._fingerprint = fingerprint
        self._world_of = world_of
        self._led = led

    @property
    def kinds(self) -> dict[str, Other]:
        return {MIRROR: self.copy, MIRROR_LIST: self.list}

    def copy(self, order: Mapping[str, Any], run_id: str, sink: Sink, cancel: CancelToken) -> dict[str, Any]:
        """One VM to one target: ``copied``."""
        wanted = read_mirror_order(order)
        world = self._world_of(sink, cancel)
        job = self._job_of(wanted.job)
        if self._fingerprint(wanted.job) != wanted.fingerprint:
            told = f"job {wanted.job} is not the same in the worker's configuration; the worker's own was followed"
            sink.write(events.Warned(vm=wanted.vm, message=told))
        to = next((one for one in job.targets if one.name == wanted.target), None)
        if to is None or job.source.name != wanted.source:
            asked = f"{wanted.source} to {wanted.target}"
            raise WorkersError(f"job {wanted.job} does not copy {asked} in the worker's configuration")
        with ExitStack() as held:
            try:
                source = self._source(world, job.source, wanted.through, held, cancel)
                target = _opened(world, to, held)
                refuse_same(source, target)
            except MIRROR_ERRORS as error:
                return {"copied": copied_data(self._unopened(world, wanted.vm, wanted.target, error))}
            copied = copy_vm(
                world,
                job.wish(world.clock.now_s()),
                source=(job.source.name, source),
                target=(to.name, target),
                vm=wanted.vm,
                name=wanted.vm_name or wanted.vm,
            )
        return {"copied": copied_data(copied)}

    def list(self, order: Mapping[str, Any], run_id: str, sink: Sink, cancel: CancelToken) -> dict[str, Any]:
        """``vms``: uuid and name of those that are meant."""
        wanted = read_list_order(order)
        world = self._world_of(sink, cancel)
        job = self._job_of(wanted.job)
        if job.source.name != wanted.source:
            told = f"the source of job {wanted.job} is {job.source.name}, not {wanted.source}"
            raise WorkersError(f"{told}, in the worker's configuration")
        with ExitStack() as held:
            try:
                found = mirrored_vms(replace(job, vms=wanted.vms), _opened(world, job.source, held))
            except MIRROR_ERRORS as error:
                raise WorkersError(str(error), hint=str(getattr(error, "hint", "") or "")) from error
        return {"vms": [[uuid, name] for uuid, name in found]}

    def _source(
        self, world: World, source: RemoteTarget, through: Mapping[str, str], held: ExitStack, cancel: CancelToken
    ) -> Repository:
        site = through.get(source.name)
        if site is None:
            return _opened(world, source, held)
        remote = self._led(source.name, site, cancel)
        held.callback(remote.close)
        held.enter_context(cancel.waking(remote.wake))
        return Repository(remote, clock=world.clock)

    def _unopened(self, world: World, vm: str, target: str, error: Exception) -> VmCopied:
        if isinstance(error, Cancelled) or world.cancel.cancelled:
            return VmCopied(stopped=world.cancel.reason)
        told, hint = f"{target}: {error}", str(getattr(error, "hint", "") or "")
        kind = type(error).__name__
        world.journal.write(events.Failed(vm=vm, remote=target, error=told, error_class=kind, hint=hint))
        return VmCopied(errors=(told,))


def _opened(world: World, target: RemoteTarget, held: ExitStack) -> Repository:
    repository = world.open_repository(target)
    held.callback(repository.remote.close)
    return repository
