"""A phase of a VM's run: its beginning, end, duration and error in the journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xobackup.engine import events
from xobackup.engine.world import World


@contextmanager
def phase(world: World, vm: str, name: str, *, attempt: int = 1) -> Iterator[None]:
    """Journal what happens inside as one phase; errors pass through."""
    began_s = world.clock.monotonic_s()
    world.journal.write(events.PhaseBegan(vm=vm, phase=name, attempt=attempt))
    error = ""
    try:
        yield
    except BaseException as raised:
        error = str(raised) or type(raised).__name__
        raise
    finally:
        world.journal.write(
            events.PhaseEnded(
                vm=vm,
                phase=name,
                ok=not error,
                duration_s=world.clock.monotonic_s() - began_s,
                attempt=attempt,
                error=error,
            )
        )
