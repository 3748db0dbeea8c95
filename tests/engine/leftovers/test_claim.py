"""A claim lives as long as its run, in public: written first, renewed without a gap, taken off last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from xobackup.engine import keys
from xobackup.engine.active import Active
from xobackup.engine.leftovers.claim import Claim, claims_of, touching
from xobackup.simpool import SimPool
from xobackup.xapi.session import Session
from xotest.lab import Lab

ACTIVE = Active(run_id="run-1", job_id="job-1", job="nightly", pool_uuid="p", vm_uuid="v", since_s=0.0)


@pytest.fixture
def session(lab: Lab) -> Iterator[Session]:
    with closing(Session.connect(lab.address, clock=lab.clock)) as opened:
        yield opened


def claims(lab: Lab) -> list[str]:
    config = lab.pool.model.get("VM", lab.vm)["other_config"]
    return sorted(key for key in config if key.startswith(keys.CLAIM))


def test_it_is_there_while_inside_and_gone_after(lab: Lab, session: Session) -> None:
    directory = lab.directory / "active"
    with touching(directory, session, ACTIVE, lab.vm):
        assert claims(lab) == [keys.claim_key("run-1", 0)] and len(list(directory.iterdir())) == 1
    assert claims(lab) == [] and not list(directory.iterdir())


def test_an_error_takes_it_off_too(lab: Lab, session: Session) -> None:
    with pytest.raises(RuntimeError), touching(lab.directory / "active", session, ACTIVE, lab.vm):
        raise RuntimeError
    assert claims(lab) == []


def test_it_is_renewed_without_ever_being_away(lab: Lab, session: Session) -> None:
    claim = Claim(session, ACTIVE)
    claim.hold(lab.vm)
    for turn in (1, 0, 1):
        lab.pool.journal.clear()
        claim.beat()
        assert claims(lab) == [keys.claim_key("run-1", turn)]
        calls = [
            (one.method, one.args[2]) for one in lab.pool.journal.entries("VM.*_other_config") if len(one.args) > 2
        ]
        added = calls.index(("VM.add_to_other_config", keys.claim_key("run-1", turn)))
        assert added < calls.index(("VM.remove_from_other_config", keys.claim_key("run-1", 1 - turn)))
    assert claim.release() and claims(lab) == []
    claim.beat()
    assert claims(lab) == [], "a beat that comes late writes nothing any more"


def test_a_lost_answer_while_it_is_written_is_no_trouble(lab: Lab, session: Session, pool: SimPool) -> None:
    pool.faults.lose_answer("VM.add_to_other_config")
    with touching(lab.directory / "active", session, ACTIVE, lab.vm):
        assert claims(lab) == [keys.claim_key("run-1", 0)]


def test_a_pool_that_cannot_be_told_of_the_end_leaves_the_mark(lab: Lab, session: Session, pool: SimPool) -> None:
    directory = lab.directory / "active"
    with touching(directory, session, ACTIVE, lab.vm):
        pool.faults.fail_call("VM.remove_from_other_config", "INTERNAL_ERROR", ["no"])
    assert len(list(directory.iterdir())) == 1
    with touching(directory, session, ACTIVE, lab.vm):
        pass  # another attempt of the same run
    assert not list(directory.iterdir())


def test_a_vm_that_is_gone_needs_no_claim(lab: Lab, session: Session) -> None:
    directory = lab.directory / "active"
    with touching(directory, session, ACTIVE, "OpaqueRef:gone"):
        pass
    assert not list(directory.iterdir())


def test_a_claim_of_a_clock_that_is_wrong_here_is_of_the_pools_time(lab: Lab, session: Session) -> None:
    lab.clock.advance(-86400 * 365)
    claim = Claim(session, ACTIVE)
    (found,) = claims_of(claim.now()).values()
    age = found.age_s(lab.pool.toolstack.clock.now_s())
    assert age is not None and abs(age) < 60
