"""The report escapes what it is given; samples take the oldest; copies of a check's VM are nobody's leftovers."""

from __future__ import annotations

import json

from xobackup.engine.health.report import as_html, as_json
from xobackup.engine.health.request import CheckResult, Step
from xobackup.engine.health.sample import due
from xobackup.engine.leftovers.find import find
from xobackup.engine.leftovers.judge import Fate, Seen

HOSTILE = "<script>alert(1)</script>\"'&"
RESULT = CheckResult(
    vm_uuid="u",
    vm_name=HOSTILE,
    point="20260101T000000Z",
    remote=HOSTILE,
    pool=HOSTILE,
    sr=HOSTILE,
    started_at="2026-01-01T00:00:00+00:00",
    ok=False,
    reason=HOSTILE,
    steps=(Step(name="restore", seconds=1.5), Step(name=HOSTILE, seconds=2.0, ok=False)),
    size_bytes=1 << 20,
    blocks_compared=1,
    removed=False,
    warnings=(HOSTILE,),
)


def test_hostile_names_stay_text() -> None:
    page = as_html(HOSTILE, [RESULT], made_at="now")
    assert "<script" not in page and page.count("&lt;script&gt;") == 9
    assert "0 of 1 VMs passed" in page and "could not be removed" in page
    data = json.loads(as_json("checks", [RESULT], made_at="now"))
    assert data["failed"] == 1 and data["rto_total_s"] == 3.5 and data["results"][0]["vm_name"] == HOSTILE


def test_a_sample_begins_with_those_never_checked() -> None:
    checked = {"a": 100.0, "b": 50.0, "c": 990.0, "d": 2000.0}
    assert due("abcde", checked, now_s=1000.0, every_s=500.0, vms_max=None) == ["e", "b", "a", "d"]
    assert due("abcde", checked, now_s=1000.0, every_s=500.0, vms_max=2) == ["e", "b"]
    assert due("", checked, now_s=1000.0, every_s=0.0, vms_max=2) == []


def test_only_the_vm_of_the_check_itself_is_a_leftover() -> None:
    def vm(uuid: str, text: str) -> dict[str, object]:
        return {"uuid": uuid, "name_label": uuid, "other_config": {"xobackup:health-check": text}}

    vms = {"1": vm("own", "check own"), "2": vm("copy", "check own"), "3": vm("new", "other")}
    seen = Seen(tasks={}, vdis={}, vbds={}, vms=vms, now_s=0.0)
    assert [(one.uuid, one.fate) for one in find(seen)] == [("own", Fate.REMOVE), ("new", Fate.OPERATOR)]
