"""How a merge is driven, and what it tells while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vhd.merge.state import state_name

if TYPE_CHECKING:
    from vhd.merge.plan import MergePlan
    from vhd.merge.state import MergeState
    from vhd.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a merge is."""

    blocks_done: int
    blocks_total: int
    bytes_done: int


def ignore(_: Progress) -> None:
    """A progress callback that does nothing."""


def go_on() -> None:
    """A cancel check that never stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOptions:
    """Choices of the caller; the defaults suit a local disk."""

    progress: Callable[[Progress], None] = ignore
    cancel: Callable[[], None] = go_on
    """Called before every block; raises to stop. What is left can be resumed."""
    monotonic_s: Callable[[], float] = time.monotonic
    checkpoint_s: float = 10.0
    """Time between rewrites of the state file (Xen Orchestra's choice)."""
    checkpoint_bytes: int = 1 << 30
    """The same in bytes moved: what a resume does over at most."""
    workers_max: int = 4
    """Directories: objects moved at the same time."""
    check_uuids: bool = True


class Keeper:
    """Keeps the state file and the progress of one merge."""

    def __init__(
        self,
        workspace: Workspace,
        state: MergeState,
        options: MergeOptions,
        plan: MergePlan,
        *,
        resumed: bool = False,
    ) -> None:
        """``resumed``: an earlier attempt, ours or Xen Orchestra's, may have done part of it."""
        self.options = options
        self.resumed = resumed
        self._state = state
        self._not_in_state = 0
        self._workspace = workspace
        self._total = plan.blocks
        self._done = sum(1 for index in plan.indexes if index < state.current_block)
        self._bytes = 0
        self._bytes_kept = 0
        self._kept_s = options.monotonic_s()

    def block_done(self, size_bytes: int) -> None:
        """One more block is merged (not necessarily durable)."""
        self._done += 1
        self._bytes += size_bytes
        self._not_in_state += size_bytes
        self.options.progress(Progress(blocks_done=self._done, blocks_total=self._total, bytes_done=self._bytes))

    @property
    def state(self) -> MergeState:
        """The state as it is now, the bytes of all blocks done included."""
        if self._not_in_state:
            self._state = replace(self._state, merged_bytes=self._state.merged_bytes + self._not_in_state)
            self._not_in_state = 0
        return self._state

    @property
    def bytes_done(self) -> int:
        return self._bytes

    @property
    def due(self) -> bool:
        """Whether the state file should be rewritten."""
        late = self.options.monotonic_s() - self._kept_s >= self.options.checkpoint_s
        return late or self._bytes - self._bytes_kept >= self.options.checkpoint_bytes

    def keep(self, state: MergeState) -> None:
        """Write the state file; what it claims must be durable."""
        self._workspace.put(state_name(state.root), state.pack())
        self._state, self._not_in_state = state, 0
        self._bytes_kept = self._bytes
        self._kept_s = self.options.monotonic_s()

    def keep_block(self, current_block: int) -> None:
        """Everything below ``current_block`` is merged for good."""
        self.keep(replace(self.state, current_block=current_block))
