from __future__ import annotations

import threading

import pytest

from xobackup.xapi.errors import ProtocolError, WaitTimeout, XapiFailure
from xobackup.xapi.events import EventFeed, wait_for
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Fail, ScriptedXapi


def test_what_is_already_the_case_counts_as_happened(host: ScriptedXapi, session: Session) -> None:
    task = host.new_task(status="success")
    event = wait_for(session, [f"task/{task}"], lambda event: event.record["status"] == "success", 5)
    assert (event.cls, event.operation, event.ref) == ("task", "mod", task)


def test_a_change_is_waited_for(host: ScriptedXapi, session: Session) -> None:
    task = host.new_task()
    threading.Timer(0.1, host.end_task, [task]).start()
    event = wait_for(
        session, [f"task/{task}"], lambda event: event.record is not None and event.record["status"] == "success", 5
    )
    assert event.ref == task


def test_what_does_not_happen_is_named(host: ScriptedXapi, session: Session) -> None:
    task = host.new_task()
    with pytest.raises(WaitTimeout, match=r"the VM to stop: did not happen within 0\.2 s"):
        wait_for(session, [f"task/{task}"], lambda event: False, 0.2, what="the VM to stop")


def test_a_feed_goes_on_where_it_was(host: ScriptedXapi, session: Session) -> None:
    task = host.new_task()
    feed = EventFeed(session, [f"task/{task}"])
    assert len(feed.next(1)) == 1
    assert feed.next(0.05) == []
    host.set_task(task, progress=0.5)
    assert len(feed.next(1)) == 1


def test_a_host_that_lost_our_place_tells_everything_again(host: ScriptedXapi, session: Session) -> None:
    task = host.new_task()
    feed = EventFeed(session, [f"task/{task}"])
    feed.next(1)
    host.queue("event.from", Fail("EVENTS_LOST"))
    assert feed.next(1) == []
    assert len(feed.next(1)) == 1


def test_other_failures_are_raised(host: ScriptedXapi, session: Session) -> None:
    host.queue("event.from", Fail("EVENT_SUBSCRIPTION_PARSE_FAILURE", "x"))
    with pytest.raises(XapiFailure):
        EventFeed(session, ["x"]).next(0)


@pytest.mark.parametrize("answer", [5, [], {"events": 5}, {"token": "1"}])
def test_a_batch_of_the_wrong_shape_is_a_protocol_error(host: ScriptedXapi, session: Session, answer: object) -> None:
    host.methods["event.from"] = lambda *_: answer
    with pytest.raises(ProtocolError):
        EventFeed(session, ["vm"]).next(0)


def test_odd_events_are_read_as_far_as_possible(host: ScriptedXapi, session: Session) -> None:
    host.queue("event.from", {"events": [5, {}, {"class": "VM", "snapshot": 5}], "token": "1"})
    first, second = EventFeed(session, ["vm"]).next(0)
    assert (first.cls, second.cls, second.record) == ("", "vm", None)
