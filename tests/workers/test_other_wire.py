"""Databases of pools and health checks on their way through a database."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from xobackup.engine.errors import Outcome
from xobackup.engine.health.request import CheckResult, Step
from xobackup.engine.report import PoolReport
from xobackup.workers.errors import WorkersError
from xobackup.workers.other_wire import ChecksDone, ChecksOrder, Fresh, PoolOrder
from xobackup.workers.wire import read_as

CHECK = CheckResult(
    vm_uuid="v", vm_name="n", point="x", remote="nas", pool="p", sr="s", started_at="t", ok=False, reason="no answer",
    steps=(Step(name="restore", seconds=1.5), Step(name="boot", seconds=2, ok=False)), size_bytes=1,
    blocks_compared=2, removed=True, warnings=("w",),
)  # fmt: skip
VALUES = [
    PoolOrder(run="r", job="j", pool="p", fingerprint="f", vm_name="database of pool p"),
    ChecksOrder(
        run="r",
        job="j",
        vms_fresh=(Fresh(uuid="v", name="n", pool="p", points={"nas": "x"}),),
        ages_s={"v": 3.5},
        vm_name="health checks",
    ),
    ChecksDone(results=(CHECK,), problems=("none booted",)),
    PoolReport(uuid="u", name="n", pool="p", outcome=Outcome.OK, points={"nas": "x"}, expired={"nas": ["y"]}),
]


@pytest.mark.parametrize("value", VALUES)
def test_what_is_sent_comes_back(value) -> None:
    sent = json.loads(json.dumps(asdict(value)))
    assert read_as(type(value), sent) == value
    assert read_as(type(value), {**sent, "newer": 1}) == value


@pytest.mark.parametrize(
    "broken", [{}, {"results": 7, "problems": []}, {"results": [{"vm_uuid": 1}], "problems": []}]
)
def test_what_is_not_understood_is_refused(broken) -> None:
    with pytest.raises(WorkersError, match="expected the fields of this version"):
        read_as(ChecksDone, broken)
