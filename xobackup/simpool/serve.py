"""Pools as a process of their own: serve until asked to stop, saving as they change.

Who calls decides what is shown: :func:`serve` hands an :class:`Announcement` to ``announce`` once a pool answers.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from xobackup.simpool.pool import SimPool
from xobackup.simpool.spec import PoolSpec
from xobackup.simpool.workload import Workload

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from xobackup.simpool.fault_rules import FaultRule
    from xobackup.simpool.options import Options

SAVE_EVERY_S = 1.0
"""How much of the database's history a killed process may lose; storage changes are saved at once."""
SEEDS_APART = 1_000_003
"""So that several pools of one process share no uuids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a client needs to connect."""

    name: str
    url: str
    username: str
    password: str
    fingerprint_sha256: str
    ca_pem_path: Path
    hosts: tuple[str, ...]
    """Where each answers."""
    vms: tuple[str, ...]
    reopened: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a pool makes its clients suffer."""

    rules: Sequence[FaultRule] = ()
    latency_s: float = 0.0
    bytes_per_s: float | None = None
    first_byte_s: float = 0.0
    random_seed: int | None = None
    random_rate: float = 0.0

    def make(self, pool: SimPool) -> None:
        """Plan all of it."""
        for rule in self.rules:
            rule.plan(pool)
        if self.latency_s or self.bytes_per_s or self.first_byte_s:
            for kind in ("http", "nbd"):
                pool.faults.slow(
                    kind, latency_s=self.latency_s, bytes_per_s=self.bytes_per_s, first_byte_s=self.first_byte_s
                )
        if self.random_seed is not None:
            pool.faults.randomly(self.random_seed, rate=self.random_rate, restart=pool.restart_toolstack)


def announcement_of(pool: SimPool) -> Announcement:
    """How to reach a running pool."""
    with pool.model.lock:
        names = tuple(
            record["name_label"]
            for _, record in pool.model.where("VM", is_a_template=False, is_control_domain=False, is_a_snapshot=False)
        )
        name = pool.model.get("pool", pool.toolstack.pool)["name_label"]
    return Announcement(
        name=name,
        url=pool.url,
        username=pool.username,
        password=pool.password,
        fingerprint_sha256=pool.fingerprint_sha256,
        ca_pem_path=pool.ca_pem_path,
        hosts=tuple(f"{pool.toolstack.scheme}://{server.address}" for server in pool.servers),
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
    pools: int = 1,
    trouble: Trouble | None = None,
) -> None:
    """Serve the pool in ``directory`` until ``stop`` is set. ``guest_pause_s``: let running VMs write, that often.

    ``pools``: the others live in ``pool-2``, ``pool-3``... below and listen on the ports after ``port``; ``trouble``
    is the first one's.
    """
    with ExitStack() as held:
        started: list[SimPool] = []
        guests: list[Workload] = []
        for number in range(pools):
            pool = SimPool.start(
                directory / f"pool-{number + 1}" if number else directory,
                spec=_spec_of(spec, number),
                options=options,
                address=address,
                port=port + number if port else 0,
                tls=tls,
                seed=seed + number * SEEDS_APART,
            )
            started.append(held.enter_context(pool))
            pool.save()
            pool.toolstack.on_storage.append(partial(_save, pool))
            if guest_pause_s is not None:
                guests += _guests(pool, seed)
        if trouble is not None:
            trouble.make(started[0])
        for pool in started:
            announce(announcement_of(pool))
        _work(started, guests, stop, guest_pause_s)


def _work(
    pools: Sequence[SimPool], guests: Sequence[Workload], stop: threading.Event, guest_pause_s: float | None
) -> None:
    saved = [pool.model.generation for pool in pools]
    while not stop.wait(min(SAVE_EVERY_S, guest_pause_s or SAVE_EVERY_S)):
        for guest in guests:
            guest.step()
        for number, pool in enumerate(pools):
            if pool.model.generation != saved[number]:
                saved[number] = pool.model.generation
                pool.save()


def _save(pool: SimPool, _sr: str) -> None:
    pool.save()


def _spec_of(spec: PoolSpec | None, number: int) -> PoolSpec | None:
    if number == 0:
        return spec
    made = spec or PoolSpec()
    return replace(made, name=f"{made.name} {number + 1}")


def _guests(pool: SimPool, seed: int) -> list[Workload]:
    with pool.model.lock:
        running = [ref for ref, _ in pool.model.where("VM", power_state="Running", is_control_domain=False)]
    return [Workload(pool, vm, seed + number) for number, vm in enumerate(running)]
