"""Who is next: first come first served, those tried again after the others, those who wait hold no slot."""

from xobackup.engine.turns.queue import Place, State, Step, next_step


def places(*states: tuple[State, int, float]) -> list[Place]:
    return [
        Place(key=key, number=key, state=state, attempt=attempt, due_s=due_s)
        for key, (state, attempt, due_s) in enumerate(states)
    ]


def test_as_many_as_there_are_slots_start_in_order() -> None:
    ready = (State.READY, 1, 0.0)
    assert next_step(places(ready, ready, ready), now_s=0, slots=2).start == (0, 1)
    assert next_step(places((State.RUNNING, 1, 0.0), ready, ready), now_s=0, slots=2).start == (1,)
    assert next_step(places((State.RUNNING, 1, 0.0), (State.RUNNING, 1, 0.0), ready), now_s=0, slots=2) == Step()


def test_who_is_tried_again_comes_after_those_without_a_turn() -> None:
    step = next_step(places((State.PAUSED, 2, 5.0), (State.READY, 1, 0.0)), now_s=9, slots=1)
    assert step.start == (1,)


def test_who_waits_is_passed_by_and_wakes_the_loop() -> None:
    found = places((State.CHAINS, 1, 15.0), (State.PAUSED, 2, 30.0), (State.READY, 1, 0.0))
    assert next_step(found, now_s=10, slots=1) == Step(start=(2,), wake_s=15.0)
    found[2].state = State.DONE
    assert next_step(found, now_s=15, slots=1) == Step(look=(0,), wake_s=30.0)
    assert next_step(found, now_s=30, slots=1) == Step(start=(1,), look=(0,))
