"""Bring back restore points of one VM that were hidden on a versioned remote, under the VM's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xobackup.engine.storage import open_past, open_repository

if TYPE_CHECKING:
    from remotes.faces import Past
    from xobackup.clock import Clock
    from xobackup.engine.job import RemoteTarget
    from xobackup.repository.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    """A remote as it was: ``repository`` to be read, ``past`` the same without its encryption."""

    repository: Repository
    past: Past


@contextlib.contextmanager
def opened_then(target: RemoteTarget, time_s: float, *, clock: Clock) -> Iterator[Then]:
    """The remote as it was at ``time_s``."""
    then = replace(target, storage=replace(target.storage, as_of_s=time_s))
    with contextlib.ExitStack() as held:
        past = open_past(target, time_s)
        held.callback(past.close)
        repository = open_repository(then, clock=clock)
        held.callback(repository.remote.close)
        yield Then(repository=repository, past=past)


def undelete(
    then: Then,
    present: Repository,
    vm: str,
    ids: Collection[str] | None,
    *,
    lock_wait_s: float,
    check: Callable[[], None],
    done: Callable[[int], None],
) -> list[str]:
    """Plan anew under the lock, and do it; returns the ids of the points that are back."""
    from xobackup.repository.caching import drop_cache, rebuild_cache
    from xobackup.repository.undeleting import apply_undelete, plan_undelete

    with present.lock(vm, timeout_s=lock_wait_s, purpose="backups undelete", check=check) as directory:
        plans = plan_undelete(then.repository, then.past, vm, ids)

        def both() -> None:
            check()
            directory.lock.check()

        remote = present.remote
        drop_cache(remote, vm)
        try:
            return apply_undelete(then.past, plans, check=both, parallel=remote.capabilities.parallel, done=done)
        finally:
            rebuild_cache(remote, vm)
