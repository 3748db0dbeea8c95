"""Groups: one task that holds the keys of all its VMs, or none of them."""

from __future__ import annotations

import json
import threading

import pytest
import sqlalchemy as sa

from xobackup.engine.errors import Outcome
from xobackup.engine.report import GroupReport, VmReport
from xobackup.workers import schema
from xobackup.workers.errors import TaskLost
from xobackup.workers.group_wire import (
    GroupDone,
    GroupOrder,
    group_done_data,
    group_order_data,
    group_tasks,
    read_group_done,
    read_group_order,
)
from xobackup.workers.kinds import GROUP, QUEUE_MAX, queue_of, queues_of, site_of
from xobackup.workers.linked import LINKED, put_linked
from xobackup.workers.placing import Need, choose
from xobackup.workers.records import ANYWHERE, DELIVERIES_MAX, Seen, Task, Worker

QUEUE = queue_of(ANYWHERE, GROUP)


def beat(board, *names, doing=()) -> None:
    for name in names:
        one = Worker(id=name, site="", host=name, pid=1, version="1", slots=2, reach={})
        board.beat(one, now_s=0.0, up_s=1.0, doing=doing)


def order(task: str, *vms: str) -> GroupOrder:
    return GroupOrder.of(task, "r", "nightly", "p", {vm: f"name of {vm}" for vm in vms}, interval=7, fingerprint="f")


def put_group(board, task: str, *vms: str) -> None:
    lead, *members = group_tasks(order(task, *vms), task, QUEUE)
    put_linked(board, lead, members)


def single(board, task: str, vm: str) -> None:
    board.put([Task(id=task, run="r", key=vm, queue=ANYWHERE, order={"vm": vm})])


def states(board) -> dict[str, str]:
    with board.writing() as connection:
        return {row.id: row.state for row in connection.execute(sa.select(schema.tasks.c.id, schema.tasks.c.state))}


def die(board) -> None:
    with board.writing() as connection:
        connection.execute(sa.update(schema.workers).values(seen=schema.workers.c.seen - 100))


@pytest.fixture
def ready(board):
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a", "b")
    return board


def test_a_group_waits_for_each_of_its_vms_and_then_keeps_all_others_away(ready) -> None:
    single(ready, "s1", "v1")
    put_group(ready, "g", "v0", "v1")
    one = ready.take("s1", "a")
    assert ready.take("g", "b") is None
    assert states(ready) == {"s1": "doing", "g": "todo", "g.0": LINKED, "g.1": LINKED}
    single(ready, "s2", "v0")
    free = ready.take("s2", "b")
    assert free is not None, "a group that waits holds nobody up"
    ready.end(free, {})
    ready.end(one, {})
    group = ready.take("g", "a")
    assert group is not None and states(ready)["g.0"] == states(ready)["g.1"] == "doing"
    single(ready, "s3", "v1")
    put_group(ready, "h", "v1", "v2")
    assert ready.take("s3", "b") is None and ready.take("h", "b") is None
    (busy,) = [seen.doing for seen in ready.workers() if seen.worker.id == "a"]
    assert [told["vm_name"] for told in busy] == ["name of v0, name of v1"], "one slot"
    ready.end(group, {"done": {}})
    assert ("g", {"done": {}}) in ready.news("r").ended
    assert "g.0" not in states(ready) and ready.take("h", "b") is not None


def test_a_group_that_must_wait_is_not_in_the_way_of_what_comes_behind(ready) -> None:
    single(ready, "s1", "v1")
    one = ready.take("s1", "a")
    put_group(ready, "g", "v0", "v1")
    ready.put([Task(id="later", run="r", key="v9", queue=QUEUE, order={"vm": "v9"})])
    stop, seen = threading.Event(), []

    def do(delivery) -> None:
        seen.append(delivery.task.id)
        if delivery.task.id == "later":
            ready.end(one, {})
        else:
            stop.set()
        ready.end(delivery, {})

    ready.dispatch.serve("b", queues_of("", [GROUP]), 1, do, stop.is_set)
    assert seen == ["later", "g"]


def test_the_group_of_a_dead_worker_is_begun_again_as_a_whole(ready) -> None:
    put_group(ready, "g", "v0", "v1")
    for number in range(1, DELIVERIES_MAX + 1):
        delivery = ready.take("g", "a")
        assert delivery.number == number
        die(ready)
        beat(ready, "b")
        assert [task.id for task, _ in ready.reap()] == (["g"] if number < DELIVERIES_MAX else [])
        with pytest.raises(TaskLost):
            ready.standing(delivery)
        beat(ready, "a", "b")
        if number < DELIVERIES_MAX:
            assert states(ready) == {"g": "todo", "g.0": LINKED, "g.1": LINKED}
            single(ready, f"s{number}", "v1")
            alone = ready.take(f"s{number}", "b")
            assert alone is not None, "the VM is free"
            ready.end(alone, {})
            ready.heard("r", ready.news("r"))
    news = ready.news("r")
    ready.heard("r", news)
    assert news.ended == (("g", {"lost": "a", "deliveries": DELIVERIES_MAX}),) and states(ready) == {}


def test_what_an_older_version_took_apart_is_put_together(ready) -> None:
    put_group(ready, "g", "v0", "v1")
    with ready.writing() as connection:
        members = sa.update(schema.tasks).where(schema.tasks.c.id.in_(["g.0", "g.1"]))
        connection.execute(members.values(state="todo"))
    assert ready.take("g.0", "a") is None and states(ready)["g.0"] == LINKED
    assert ready.take("g", "a") is not None and set(states(ready).values()) == {"doing"}


def test_a_living_worker_keeps_its_vms_by_its_word(ready) -> None:
    put_group(ready, "g", "v0")
    ready.take("g", "a")
    with ready.writing() as connection:
        connection.execute(sa.update(schema.tasks).values(taken=schema.tasks.c.taken - 60))
    beat(ready, "a", doing=["g", "g.0"])
    assert states(ready) == {"g": "doing", "g.0": "doing"}
    beat(ready, "a", doing=[])
    assert states(ready) == {"g": "todo", "g.0": LINKED}


def test_two_groups_that_share_vms_are_begun_by_two_at_once_without_waiting_for_each_other(ready) -> None:
    put_group(ready, "g", "v0", "v1", "v2")
    put_group(ready, "h", "v2", "v1", "v0")
    begun, barrier = [], threading.Barrier(2)

    def take(task: str, worker: str) -> None:
        barrier.wait(20)
        begun.append(ready.take(task, worker))

    threads = [threading.Thread(target=take, args=one) for one in (("g", "a"), ("h", "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(one is not None for one in begun) == 1 and len(begun) == 2


def test_older_workers_are_not_brought_groups() -> None:
    assert queues_of("paris", []) == ["*", "paris"]
    assert queues_of("paris", [GROUP]) == ["*", "paris", "*:group", "paris:group"]
    long = "p" * 64
    assert len(queue_of(long, GROUP)) <= QUEUE_MAX and queue_of(long, GROUP) != queue_of(long[:-1] + "q", GROUP)
    assert site_of("paris:group") == site_of("paris") == "paris"
    need = Need(pool="p", remotes={}, targets={})
    old = Worker(id="o", site="paris", host="h", pid=1, version="1", slots=2, reach={"pools": ["p"]})
    new = Worker(id="n", site="lyon", host="h", pid=1, version="2", slots=2, reach={"pools": ["p"], "kinds": [GROUP]})
    seen = [Seen(worker=one, age_s=0.0, up_s=1.0, skew_s=0.0) for one in (old, new)]
    assert choose(need, seen, here="", loads={"lyon": 9}, kind=GROUP).queue == "lyon"
    assert choose(need, seen[:1], here="", loads={}, kind=GROUP).queue is None
    assert choose(need, seen, here="", loads={"lyon": 9}).queue == "paris"
    far = Need(pool="p", pool_sites=("paris",), remotes={}, targets={})
    told = choose(far, seen[:1], here="rome", loads={}, kind=GROUP).reason
    assert told.endswith("no worker of site paris that knows tasks of the kind group lives")


def test_order_and_verdicts_survive_the_way() -> None:
    told = order("g", "v0", "v1")
    assert read_group_order(json.loads(json.dumps(group_order_data(told)))) == told
    done = GroupDone(
        reports=(VmReport(uuid="v0", name="n", pool="p", outcome=Outcome.OK, group="x"),),
        group=GroupReport(id="x", vms=("v0",), span_s=0.5, left_out={"v1": "gone"}),
    )
    assert read_group_done(json.loads(json.dumps(group_done_data(done)))) == done
    assert read_group_done(json.loads(json.dumps(group_done_data(GroupDone(reports=()))))) == GroupDone(reports=())
