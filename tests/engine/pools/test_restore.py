"""A pool's database put back: judged, tried, refused where it would be a mistake, and done."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import pytest

from xobackup.engine import events, keys
from xobackup.engine.errors import EngineError, IntegrityError
from xobackup.engine.job import METADATA, Settings
from xobackup.engine.pools.restore import PoolRestorePlan, plan_pool_restore, restore_pool, try_pool_restore
from xobackup.simpool.http.xmldbdump import dump
from xobackup.xapi.errors import OperatorProblem, Unreachable
from xotest.lab import Lab
from xotest.pool_dumps import draft

OTHER = "eeeeeeee-0000-4000-8000-00000000000f"
STRANGER = "eeeeeeee-0000-4000-8000-0000000000ff"


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A backup was made, and then the VM was renamed."""
    lab.settings = Settings(mode=METADATA, lock_wait_s=0)
    lab.run()
    lab.pool.call("VM.set_name_label", lab.vm, "renamed")
    return lab


def planned(lab: Lab, *, force: bool = False) -> PoolRestorePlan:
    backups = lab.repository().pools()
    with closing(lab.world().connect(lab.address)) as session:
        return plan_pool_restore(lab.world(), session, backups, backups.points().points[-1], force=force)


def attempt(lab: Lab, verb: Callable[..., object], plan: PoolRestorePlan, **options: object) -> object:
    with closing(lab.world().connect(lab.address)) as session:
        return verb(lab.world(), session, lab.repository().pools(), plan, **options)


def changed(lab: Lab, *pairs: tuple[bytes, bytes]) -> None:
    """Another backup, of a dump that differs from the pool's."""
    data = dump(lab.pool.toolstack)
    for old, new in pairs:
        assert old in data, old
        data = data.replace(old, new)
    lab.clock.advance(60)
    (record,) = lab.pool.model.records("pool").values()
    pool = OTHER if OTHER.encode() in data else record["uuid"]
    with lab.repository().pools().begin(draft(lab.clock.now_s(), pool=pool), run="run") as writer:
        writer.write(data)
        writer.publish()


def names(lab: Lab) -> set[str]:
    return {record["name_label"] for record in lab.pool.model.records("VM").values()}


def test_a_trial_changes_nothing(lab: Lab) -> None:
    plan = planned(lab)
    assert plan.refusals == () and any("reboots into the dump" in warning for warning in plan.warnings)
    attempt(lab, try_pool_restore, plan)
    assert "renamed" in names(lab)
    assert [tried.ok for tried in lab.journal.of(events.PoolTried)] == [True]
    lab.assert_tidy()


def test_a_restore_brings_the_records_back(lab: Lab) -> None:
    restored = attempt(lab, restore_pool, planned(lab), connect=lambda: lab.world().connect(lab.address))
    assert restored.answers and restored.problems == ()
    assert "guest" in names(lab) and "renamed" not in names(lab)
    (event,) = lab.journal.of(events.PoolRestored)
    assert event.answers and event.reason == ""


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("pool", f"it is the database of pool {OTHER}"),
        ("host", "the pool does not have its hosts"),
        ("hosts", "it names 2 hosts, the pool has 1"),
    ],
)
def test_what_would_be_a_mistake_is_refused_unless_forced(lab: Lab, pair: str, told: str) -> None:
    (pool,) = lab.pool.model.records("pool").values()
    (host,) = lab.pool.model.records("host").values()
    pairs = {
        "pool": (str(pool["uuid"]).encode(), OTHER.encode()),
        "host": (str(host["uuid"]).encode(), STRANGER.encode()),
        "hosts": (b'<table name="host">', b'<table name="host"><row ref="OpaqueRef:x" uuid="x"/>'),
    }
    changed(lab, pairs[pair])
    plan = planned(lab)
    assert any(told in refusal for refusal in plan.refusals)
    with pytest.raises(EngineError, match=r"refused: .*") as caught:
        attempt(lab, restore_pool, plan, connect=lambda: lab.world().connect(lab.address))
    assert "--force" in caught.value.hint and lab.journal.of(events.PoolTried) == []
    forced = planned(lab, force=True)
    assert forced.refusals == () and any(told in warning for warning in forced.warnings)
    assert "renamed" in names(lab)


def test_another_version_is_refused(lab: Lab) -> None:
    host = next(iter(lab.pool.model.records("host")))
    record = lab.pool.model.get("host", host)
    lab.pool.toolstack.database.update(
        "host", host, software_version={**record["software_version"], "product_version": "8.4.0"}
    )
    assert planned(lab).refusals == ("it was written by version 8.3.0, the pool runs 8.4.0",)


@pytest.mark.parametrize("damage", ["cut", "no XML", "another pool"])
def test_a_bad_dump_never_reaches_the_pool(lab: Lab, damage: str) -> None:
    (point,) = lab.repository().pools().points().points
    raw = lab.remotes["nas"].get(point.data)
    bad = {
        "cut": raw[:-500],
        "no XML": b"\0" * 100,
        "another pool": raw.replace(point.pool_uuid.encode(), OTHER.encode()),
    }
    lab.remotes["nas"].put(point.data, bad[damage])
    with pytest.raises(IntegrityError) as caught:
        planned(lab)
    assert "metadata verify" in caught.value.hint


def test_what_the_pool_would_not_take_is_its_own_sentence(lab: Lab) -> None:
    changed(lab, (b'schema_major_vsn" value="5"', b'schema_major_vsn" value="9"'))
    with pytest.raises(OperatorProblem, match="RESTORE_INCOMPATIBLE_VERSION"):
        attempt(lab, restore_pool, planned(lab), connect=lambda: lab.world().connect(lab.address))
    assert [tried.ok for tried in lab.journal.of(events.PoolTried)] == [False]
    assert "renamed" in names(lab) and lab.journal.of(events.PoolRestored) == []
    lab.assert_tidy()


def test_a_pool_that_does_not_come_back_is_said_so(lab: Lab) -> None:
    def gone() -> object:
        raise Unreachable("lab", "no connection")

    restored = attempt(lab, restore_pool, planned(lab), connect=gone, answer_s=60)
    assert not restored.answers and any("no connection" in problem for problem in restored.problems)
    (event,) = lab.journal.of(events.PoolRestored)
    assert not event.answers and event.reason


def test_a_pool_that_lacks_what_the_dump_names_is_said_so(lab: Lab) -> None:
    plan = planned(lab)
    vm = lab.pool.vm_named("renamed")
    uuid = lab.pool.model.get("VM", vm)["uuid"]

    def connect() -> object:
        deadline = time.monotonic() + 20
        while "renamed" in names(lab):  # the restart into the dump begins after the answer
            assert time.monotonic() < deadline, "the pool does not restart"
            time.sleep(0.01)
        back = lab.pool.call("VM.get_by_uuid", uuid)
        lab.pool.call("VM.hard_shutdown", back)
        lab.pool.call("VM.destroy", back)
        return lab.world().connect(lab.address)

    restored = attempt(lab, restore_pool, plan, connect=connect)
    assert restored.answers and any("1 of the dump's VMs: guest" in problem for problem in restored.problems)


def test_a_real_restore_removes_what_dead_runs_left_first_a_trial_does_not(lab: Lab) -> None:
    name = keys.temporary_name("job", "dead-run")
    snapshot = lab.pool.call("VM.snapshot", lab.pool.vm_named("renamed"), name)
    attempt(lab, try_pool_restore, planned(lab))
    assert snapshot in lab.pool.model.records("VM")
    attempt(lab, restore_pool, planned(lab), connect=lambda: lab.world().connect(lab.address))
    assert any(name in event.what for event in lab.journal.of(events.LeftoverCleaned))
