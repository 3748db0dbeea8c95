"""Orders and reports survive the way through a database, also to a version that knows less."""

from __future__ import annotations

import json

import pytest

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.hooks.hook import HookResult
from xobackup.engine.mirror.one import VmCopied
from xobackup.engine.report import Tried, VmReport
from xobackup.engine.transferred import Way
from xobackup.engine.turns.chains import Chain
from xobackup.workers.errors import WorkersError
from xobackup.workers.wire import (
    ListOrder,
    MirrorOrder,
    Order,
    copied_data,
    order_data,
    read_copied,
    read_list_order,
    read_mirror_order,
    read_order,
    read_report,
    report_data,
)

TRIED = Tried(number=1, began_s=2.0, duration_s=3, error="gone", error_class="X")
WAY = Way(disk="d", disk_name="n", remotes=("a", "b"), via="stream", not_via=("why",), read_bytes=7)


def through(data):
    return json.loads(json.dumps(data))


def test_a_report_comes_back_as_it_was() -> None:
    hook = HookResult(**{name: _value(kind) for name, kind in HookResult.__annotations__.items()})
    chain = Chain(**{name: _value(kind) for name, kind in Chain.__annotations__.items()})
    report = VmReport(
        uuid="u",
        name="n",
        pool="p",
        outcome=Outcome.FAILED,
        points={"nas": "20260101T000000Z"},
        ways=(WAY,),
        tried=(TRIED,),
        chains=(chain,),
        hooks=(hook,),
        warnings=("w",),
        vias=("stream",),
        retryable=True,
    )
    assert read_report(through(report_data(report))) == report
    assert read_report({**through(report_data(report)), "newer": 1}) == report


def _value(kind: str):
    known = {"str": "x", "int": 1, "float": 1.0, "bool": True}
    return ("x",) if kind.startswith("tuple") else known.get(kind, "x")


def test_an_order_comes_back_and_one_that_is_not_understood_says_so() -> None:
    order = Order(
        run="r",
        job="j",
        pool="p",
        vm="v",
        vm_name="n",
        full_interval=1,
        fingerprint="f",
        number=2,
        before=(TRIED,),
        through={"pool:lyon": "lyon"},
    )
    assert read_order(through(order_data(order))) == order and order.turn.before == (TRIED,)
    for broken in ({"run": "r"}, {**order_data(order), "number": "two"}, {**order_data(order), "before": [7]}):
        with pytest.raises(WorkersError, match="order: expected"):
            read_order(through(broken))


def test_events_come_back_and_unknown_ones_are_passed_over() -> None:
    event = events.PointPublished(vm="v", remote="nas", point="x", size_bytes=1)
    assert events.from_record(through(events.as_record(event, 0.0))) == event
    assert events.from_record({"kind": "of-tomorrow", "vm": "v"}) is None
    assert events.from_record({"kind": "point-published"}) is None


def test_parts_of_mirrors_come_back_as_they_were() -> None:
    order = MirrorOrder(
        run="r", job="j", vm="v", vm_name="n", source="a", target="b", fingerprint="f", through={"a": "lyon"}
    )
    assert read_mirror_order(through(order_data(order))) == order
    listing = ListOrder(run="r", job="j", source="a", vms=("web-*",))
    assert read_list_order(through(order_data(listing))) == listing
    copied = VmCopied(size_bytes=5, fulls=1, deltas=2, point="p", warnings=("w",), errors=("e",), locked=True)
    assert read_copied({**through(copied_data(copied)), "newer": 1}) == copied
    with pytest.raises(WorkersError):
        read_mirror_order({"kind": "mirror", "run": "r"})
