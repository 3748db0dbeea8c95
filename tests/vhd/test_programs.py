"""Programs as data: create, write, snapshot, grow, merge in any order, every disk read back after every step.

Hypothesis writes the programs, plain lists of sectors' fills say what every disk must read as. The state is a chain
in a directory, as files or as VHD directories; each disk that is still there is read two ways.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.lineage import open_chain
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge
from xotest.pictures import expand, flatten
from xotest.workspace import CODECS, RemoteWorkspace, disk_name, write_pictures

BLOCKS_MAX = 4
LETTERS = "---0ABCDab"
"""Few partial ones: they take a hundred times as long to draw and to check."""
DISKS_MAX = 5


class Stop(Exception):
    """A merge is interrupted."""


class Programs(RuleBasedStateMachine):
    """``self.pictures[n]`` is disk n as written; ``self.alive`` are the numbers still there, oldest first."""

    directory = False

    def __init__(self) -> None:
        super().__init__()
        self.workspace = RemoteWorkspace(MemoryRemote())
        self.pictures: list[str] = []
        self.alive: list[int] = []
        self.unfinished: list[str] | None = None
        self.buffer = BlockBuffer()

    def name(self, number: int) -> str:
        return disk_name(number, directory=self.directory)

    @precondition(lambda self: len(self.alive) < DISKS_MAX)
    @rule(drawn=st.lists(st.sampled_from(LETTERS), min_size=BLOCKS_MAX, max_size=BLOCKS_MAX), grow=st.booleans())
    def snapshot_and_write(self, drawn: list[str], grow: bool) -> None:
        """The next backup: what was written since the last one, perhaps on a larger disk."""
        size = len(self.pictures[-1]) if self.pictures else 2
        size = min(BLOCKS_MAX, size + grow)
        picture = "".join(drawn[:size])
        number = len(self.pictures)
        write_pictures(self.workspace, [picture], directory=self.directory, tight=True, first=number)
        self.pictures.append(picture)
        self.alive.append(number)

    @precondition(lambda self: len(self.alive) >= 2 and self.unfinished is None)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """Retire any run of disks into the one after it; perhaps only begin to."""
        low = data.draw(st.integers(0, len(self.alive) - 2), label="low")
        high = data.draw(st.integers(low + 1, len(self.alive) - 1), label="high")
        stop_after = data.draw(st.none() | st.integers(0, 4), label="stop_after")
        chain = [self.name(number) for number in self.alive[low : high + 1]]
        self.alive[low:high] = []
        self.run_merge(chain, stop_after)

    @precondition(lambda self: self.unfinished is not None)
    @rule(stop_after=st.none() | st.integers(0, 2))
    def resume(self, stop_after: int | None) -> None:
        assert self.unfinished is not None
        self.run_merge(self.unfinished, stop_after)

    def run_merge(self, chain: list[str], stop_after: int | None) -> None:
        calls = 0

        def cancel() -> None:
            nonlocal calls
            if calls == stop_after:
                raise Stop
            calls += 1

        try:
            apply_merge(self.workspace, chain, CODECS, MergeOptions(cancel=cancel, checkpoint_s=0))
        except Stop:
            self.unfinished = chain
        else:
            self.unfinished = None

    @invariant()
    def every_disk_reads_as_written(self) -> None:
        for number in self.alive:
            expected = [expand(letters) for letters in flatten(self.pictures[: number + 1])]
            chain = open_chain(self.workspace, self.name(number), CODECS)
            assert chain.virtual_size_bytes == len(expected) * BLOCK_BYTES
            for index, block in enumerate(expected):
                chain.read_block(index, self.buffer)
                assert bytes(self.buffer.data) == block, (self.pictures, self.alive, number, index)
            whole, start = b"".join(expected), BLOCK_BYTES - 700
            piece = bytearray(1400)
            done = chain.read_into(start, memoryview(piece))
            assert bytes(piece[:done]) == whole[start : start + 1400]
            chain.close()

    @invariant()
    def nothing_is_left_over(self) -> None:
        if self.unfinished is None and self.pictures:
            names = {name for name in self.workspace.names("") if name != "data"}
            assert names == {self.name(number) for number in self.alive}
            if self.directory:
                assert len(self.workspace.names("data")) == len(self.alive)


class DirectoryPrograms(Programs):
    directory = True


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Programs, DirectoryPrograms], ids=["files", "directories"])
def test_every_program_leaves_every_disk_as_written(machine: type[Programs]) -> None:
    limits = settings(
        max_examples=6,
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
    )
    run_state_machine_as_test(machine, settings=limits)
