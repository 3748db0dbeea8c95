"""Blocks in any order come out in ascending order, each exactly once, whatever is late and whatever never comes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vhd.block import EMPTY_BITMAP, Block, BlockBuffer
from xobackup.engine.replication.inorder import InOrder

BUFFER = BlockBuffer()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_order(data: st.DataObject) -> None:
    indexes = sorted(data.draw(st.sets(st.integers(0, 30), min_size=1, max_size=12)))
    came = data.draw(st.permutations(data.draw(st.lists(st.sampled_from(indexes), unique=True))))
    sent: list[tuple[bool, int]] = []

    def send(index: int, bitmap: memoryview | bytes, content: memoryview) -> None:
        assert index == indexes[len(sent)]
        sent.append((bytes(bitmap) != EMPTY_BITMAP, content[0]))

    order = InOrder(indexes, send, held_max=data.draw(st.integers(0, 4)))
    for index in came:
        BUFFER.data[0] = index + 1
        order.put(Block(index, None, BUFFER))
    order.end()
    assert len(sent) == len(indexes)
    late = [(index, content[0]) for index, _, content in order.late_blocks()]
    order.close()
    found = {index: value for index, (present, value) in zip(indexes, sent, strict=True) if present}
    assert not set(found) & set(order.late) and late == [(index, index + 1) for index in order.late]
    assert order.missing == sorted(set(indexes) - set(came))
    assert {**found, **dict(late)} == {index: index + 1 for index in came}
