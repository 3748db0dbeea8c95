"""Gates: never more than there is room, first come first served, all at once, nobody starves."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from xobackup.engine.limits.gates import Gate, Ticket, blocked_by, grantable, needs_of


def gate(name: str, room: int) -> Gate:
    return Gate(key=name, name=name, what="transfers", room=room)


SR, POOL = gate("SR local", 1), gate("pool paris", 3)


def ticket(number: int, *gates: Gate, count: int = 1) -> Ticket:
    return Ticket(number=number, needs=needs_of(gates, count))


def test_who_finds_room_at_all_gates_goes_on() -> None:
    first, second = ticket(1, POOL, SR), ticket(2, POOL)
    assert grantable([first, second], {}) == [first, second]
    assert grantable([first, second], {"SR local": 1}) == [second]


def test_who_came_later_does_not_take_the_place_of_one_who_waits() -> None:
    waiting = [ticket(1, SR), ticket(2, SR)]
    assert grantable(waiting, {}) == waiting[:1]
    large, small = ticket(1, POOL, count=3), ticket(2, POOL)
    assert grantable([large, small], {"pool paris": 1}) == [], "or the large one would wait for ever"


def test_who_is_larger_than_a_gate_has_it_for_himself() -> None:
    assert needs_of([POOL], 9) == ((POOL, 3),)


def test_what_is_waited_for_is_told_with_figures() -> None:
    waiting = [ticket(1, POOL, SR), ticket(2, POOL, SR)]
    assert blocked_by(waiting[0], waiting, {"SR local": 1}) == "SR local: 1 of 1 transfers"
    assert blocked_by(waiting[0], waiting, {}) == ""
    assert "SR local" in blocked_by(waiting[1], waiting, {}), "the one before goes first"


GATES = [gate("a", 1), gate("b", 2), gate("c", 3)]
NEEDS = st.lists(st.tuples(st.sets(st.sampled_from(range(3)), min_size=1), st.integers(1, 4)), max_size=12)


@given(NEEDS)
def test_everybody_gets_through_and_no_gate_is_ever_over_full(wanted: list[tuple[set[int], int]]) -> None:
    waiting = [
        ticket(number, *(GATES[index] for index in sorted(chosen)), count=count)
        for number, (chosen, count) in enumerate(wanted)
    ]
    inside: list[Ticket] = []
    done = 0
    while waiting or inside:
        used = Counter(dict.fromkeys("abc", 0))
        for one in inside:
            used.update({gate.key: count for gate, count in one.needs})
        assert all(used[gate.key] <= gate.room for gate in GATES)
        granted = grantable(waiting, used)
        assert granted or inside, "a deadlock"
        inside += granted
        waiting = [one for one in waiting if one not in granted]
        inside.pop(0)
        done += 1
    assert done == len(wanted)
