"""What is written to a remote that has a limit of its own passes through here. The slowest remote sets the pace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, Block
from xobackup.engine.pump import BlockSink

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.throttle import Throttle
    from xobackup.engine.world import World


class _Limited:
    """A sink whose blocks wait until they may pass."""

    def __init__(self, inner: BlockSink, throttle: Throttle, cancel: CancelToken) -> None:
        self._inner = inner
        self._throttle = throttle
        self._cancel = cancel

    def write_block(self, block: Block) -> None:
        self._throttle.take(BLOCK_BYTES, self._cancel)
        self._inner.write_block(block)


def limited_sinks(world: World, sinks: Mapping[str, BlockSink], cancel: CancelToken) -> list[tuple[str, BlockSink]]:
    """The sinks by the remotes' names, each within its remote's limit."""
    found: list[tuple[str, BlockSink]] = []
    for name, sink in sinks.items():
        throttle = world.limits.to_remote(name, world.clock)
        found.append((name, sink if throttle is None else _Limited(sink, throttle, cancel)))
    return found


def limited_write(
    world: World, remote: str, write: Callable[[memoryview], object], cancel: CancelToken
) -> Callable[[memoryview], object]:
    """``write``, within the limit of ``remote``."""
    throttle = world.limits.to_remote(remote, world.clock)
    if throttle is None:
        return write

    def limited(piece: memoryview) -> object:
        throttle.take(len(piece), cancel)
        return write(piece)

    return limited
