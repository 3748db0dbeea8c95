"""A worker that was stopped for longer than its lease begins nothing when it goes on."""

import pytest

from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.workers.worker import Leased


def test_the_next_look_at_the_switch_looks_at_the_lease() -> None:
    lost, woken = [False], []

    def alive(cancel: CancelToken) -> None:
        if lost[0]:
            cancel.cancel("lost")

    switch = Leased(alive)
    assert not switch.cancelled
    with switch.waking(lambda: woken.append(1)):
        switch.check()
        lost[0] = True
        with pytest.raises(Cancelled, match="lost"):
            switch.check()
    assert switch.cancelled and switch.reason == "lost" and woken == [1]
