"""A pool as a process of its own: serve until asked to stop, saving as it changes.

Who calls decides what is shown: :func:`serve` hands an :class:`Announcement` to ``announce`` once the pool answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xobackup.simpool.pool import SimPool
from xobackup.simpool.workload import Workload

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from xobackup.simpool.options import Options
    from xobackup.simpool.spec import PoolSpec

SAVE_EVERY_S = 1.0
"""How much of the database's history a killed process may lose; storage changes are saved at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a client needs to connect."""

    url: str
    username: str
    password: str
    fingerprint_sha256: str
    ca_pem_path: Path
    vms: tuple[str, ...]
    reopened: bool


def announcement_of(pool: SimPool) -> Announcement:
    """How to reach a running pool."""
    with pool.model.lock:
        names = tuple(
            record["name_label"]
            for _, record in pool.model.where("VM", is_a_template=False, is_control_domain=False, is_a_snapshot=False)
        )
    return Announcement(
        url=pool.url,
        username=pool.username,
        password=pool.password,
        fingerprint_sha256=pool.fingerprint_sha256,
        ca_pem_path=pool.ca_pem_path,
        vms=names,
        reopened=pool.reopened,
    )


def serve(
    directory: Path,
    *,
    stop: threading.Event,
    announce: Callable[[Announcement], None],
    spec: PoolSpec | None = None,
    options: Options | None = None,
    address: str = "127.0.0.1",
    port: int = 0,
    tls: bool = True,
    seed: int = 0,
    guest_pause_s: float | None = None,
) -> None:
    """Serve the pool in ``directory`` until ``stop`` is set. ``guest_pause_s``: let running VMs write, that often."""
    with SimPool.start(directory, spec=spec, options=options, address=address, port=port, tls=tls, seed=seed) as pool:
        pool.save()
        pool.toolstack.on_storage.append(lambda _sr: pool.save())
        announce(announcement_of(pool))
        guests = _guests(pool, seed) if guest_pause_s is not None else []
        saved = pool.model.generation
        while not stop.wait(min(SAVE_EVERY_S, guest_pause_s or SAVE_EVERY_S)):
            for guest in guests:
                guest.step()
            if pool.model.generation != saved:
                saved = pool.model.generation
                pool.save()


def _guests(pool: SimPool, seed: int) -> list[Workload]:
    with pool.model.lock:
        running = [ref for ref, _ in pool.model.where("VM", power_state="Running", is_control_domain=False)]
    return [Workload(pool, vm, seed + number) for number, vm in enumerate(running)]
