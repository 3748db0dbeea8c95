"""What was examined, who is protected by nobody, what is unusual: from journals into the database and out again."""

from __future__ import annotations

import json
from pathlib import Path

from xobackup.clock import FakeClock
from xobackup.engine import events
from xobackup.engine.journal import read_journal
from xobackup.history import ask
from xobackup.history.collect import catch_up
from xobackup.history.facts import RunFacts
from xobackup.history.fold import fold
from xobackup.history.standing import Objective, overview
from xobackup.history.store import Store
from xotest.journals import DATABASE, WEB, Story, one_run

GIB = 1 << 30


def look(journals: Path, clock: FakeClock, number: int, *, damage: str = "", whole: bool = False) -> RunFacts:
    clock.advance(60)
    story = Story(journals, clock, f"look-{number}", job="", verb="verify")
    story.say(
        events.Examined(uuid=WEB, name="web" * bool(damage), remote="nas", what="blocks", damage=damage, whole=whole)
    )
    found = fold(read_journal(story.end()))
    assert found is not None and not found.subjects, "a look is no backup"
    return found


def test_of_damage_the_newest_counts_in_whatever_order_it_comes(
    store: Store, journals: Path, clock: FakeClock
) -> None:
    looks = [
        look(journals, clock, 0, damage="an old one"),
        look(journals, clock, 1, damage="block 7 differs"),
        look(journals, clock, 2),
        look(journals, clock, 3, whole=True),
    ]
    for number in (1, 0, 2):
        store.put(looks[number])
    (row,) = ask.damaged(store)
    assert (row["damage"], row["name"], row["whole_at"]) == ("block 7 differs", "web", None)
    assert row["damaged_at"] == looks[1].soundness[0].at
    for number in (3, 1, 0):
        store.put(looks[number])
    (row,) = ask.damaged(store)
    assert row["whole_at"] == looks[3].soundness[0].at > row["damaged_at"]
    told = ask.problems(store, since=0)
    assert {(one["kind"], one["text"]) for one in told} == {
        ("examined", "web: block 7 differs"),
        ("examined", "web: an old one"),
    }
    assert all("repair" in one["hint"] for one in told)
    store.forget(WEB)
    assert ask.damaged(store) == []


def test_errors_of_runs_and_restore_tests_are_found_too(store: Store, journals: Path, clock: FakeClock) -> None:
    story = Story(journals, clock, "r1")
    story.vm(WEB)
    story.say(events.Failed(vm=WEB, remote="s3", error="not what was written", error_class="Corrupt"))
    story.say(events.Failed(vm=WEB, remote="nas", error="it does not answer", error_class="Unavailable"))
    for ok, remote in ((False, "nas"), (True, "s3")):
        story.say(
            events.HealthChecked(
                vm=WEB, vm_name="web", remote=remote, point="p", ok=ok, reason="no tools", duration_s=1, steps={}
            )
        )
    story.end()
    catch_up(store, journals)
    found = {(row["what"], row["remote"]): row["damage"] for row in ask.damaged(store)}
    assert found == {
        ("blocks", "s3"): "not what was written",
        ("boot", "nas"): "p did not pass its health check: no tools",
    }
    assert [row["ok"] for row in ask.tests_since(store, since=0)] == [True, False]


def test_of_a_pool_the_newest_look_counts(store: Store, journals: Path, clock: FakeClock) -> None:
    runs = []
    for number, names in enumerate((["old"], ["\ud800<b>"])):
        clock.advance(60)
        story = Story(journals, clock, f"r{number}")
        listed = [{"uuid": name, "name": name} for name in names]
        story.journal.write(events.PoolSeen(pool="main", vms=9, unprotected=listed if number == 0 else []))
        found = fold([*read_journal(story.end())])
        assert found is not None
        if number:
            found.pools[0].unprotected = listed
        runs.append(found)
    for number in (1, 0):
        store.put(runs[number])
    (row,) = ask.pools(store)
    assert (row["vms"], [one["uuid"] for one in json.loads(row["unprotected"])]) == (9, ["\ud800<b>"])


def test_what_is_unusual_is_known_with_the_newest_run(store: Store, journals: Path, clock: FakeClock) -> None:
    for night in range(10):
        last = night == 9
        story = Story(journals, clock, f"r{night}")
        story.vm(WEB, read_bytes=90 * GIB if last else GIB, packed=0.99 if last else 0.3)
        story.vm(DATABASE, mode="full")
        if last:
            story.say(events.FellBackToFull(vm=DATABASE, disk="d", disk_name="data", why="moved", reason="it moved"))
        story.end()
        clock.advance(86_400)
    catch_up(store, journals)
    found = overview(ask.latest(store), {"nightly": Objective(rpo_s=None, why="")}, clock.now_s())
    web = next(one for one in found.vms if one.uuid == WEB)
    assert {one["code"] for one in web.odd} == {"delta", "entropy"} and (web.fallbacks, web.chain) == (0, 3)
    data = next(one for one in found.vms if one.uuid == DATABASE)
    assert (data.known, data.fulls, data.chain, data.odd) == (10, 10, 0, ())
    assert (data.fallbacks, data.full_reason) == (1, "data: it moved")
    one_run(journals, clock, "later")
    catch_up(store, journals)
    web = overview(ask.latest(store, uuid=WEB), {"nightly": Objective(rpo_s=None, why="")}, clock.now_s()).vms[0]
    assert [one["code"] for one in web.odd] == ["entropy"], "one quiet night is not enough"
