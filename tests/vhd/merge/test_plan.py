"""The plan: pure, compact, and with its reasons."""

from __future__ import annotations

import tracemalloc

from vhd.block import BLOCK_BYTES
from vhd.footer import DiskType, new_footer
from vhd.merge.plan import MemberFacts, plan_merge
from xotest.pictures import uuid_of


def facts(number: int, blocks: int, allocated: list[int] | range) -> MemberFacts:
    kind = DiskType.DIFFERENCING if number else DiskType.DYNAMIC
    footer = new_footer(size_bytes=blocks * BLOCK_BYTES, disk_type=kind, uuid=uuid_of(number), timestamp=number)
    return MemberFacts(name=f"{number}.vhd", footer=footer, table_entries=blocks, blocks=allocated)


def test_the_newest_child_gives_a_block_and_older_ones_are_listed_behind_it() -> None:
    plan = plan_merge([facts(0, 9, [0, 1, 2]), facts(1, 9, [1, 3, 5]), facts(2, 9, [3]), facts(3, 9, [3, 5, 8])])
    steps = {step.index: step for step in plan.steps()}
    assert list(steps) == [1, 3, 5, 8]
    assert {index: step.sources for index, step in steps.items()} == {1: (1,), 3: (3, 2, 1), 5: (3, 1), 8: (3,)}
    assert [index for index, step in steps.items() if step.in_root] == [1]
    assert (plan.blocks, plan.in_place, plan.appended) == (4, 1, 3)
    assert list(plan.source_of()) == [(1, 1), (3, 3), (5, 3), (8, 3)]
    assert "only in the children" in steps[3].reason
    assert "in the root too" in steps[1].reason


def test_a_resume_leaves_out_what_is_done() -> None:
    plan = plan_merge([facts(0, 9, []), facts(1, 9, [1, 3, 5])])
    assert [step.index for step in plan.steps(3)] == [3, 5]


def test_the_root_takes_the_targets_identity_and_size_and_keeps_its_kind() -> None:
    plan = plan_merge([facts(0, 4, []), facts(1, 9, [8])])
    after = plan.footer_after
    assert (after.uuid, after.current_size_bytes, after.timestamp) == (uuid_of(1), 9 * BLOCK_BYTES, 1)
    assert after.geometry == plan.target_footer.geometry
    assert after.disk_type == DiskType.DYNAMIC
    assert (plan.entries_before, plan.entries_after) == (4, 9)
    assert "grows from 4 to 9 blocks" in plan.reason


def test_blocks_past_the_targets_end_are_not_merged() -> None:
    assert [step.index for step in plan_merge([facts(0, 9, []), facts(1, 4, [3, 4, 8])]).steps()] == [3]


def test_a_plan_of_very_many_blocks_takes_a_few_bytes_each() -> None:
    members = [facts(0, 1 << 17, range(0, 1 << 17, 2)), facts(1, 1 << 17, range(1 << 17))]
    tracemalloc.start()
    plan = plan_merge(members)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.blocks == 1 << 17
    assert peak < 3 << 20
