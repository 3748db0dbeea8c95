"""Metrics: the format, names that are a promise, labels that nothing breaks out of."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from xobackup.clock import FakeClock
from xotest.journals import NAMES, one_run
from xotest.web import PaperHouse

LINE = re.compile(r'^xobackup_[a-z0-9_]+(\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? -?[0-9.e+]+$')


def test_what_is_there(client: TestClient) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for line in lines:
        assert line.startswith("# ") or LINE.match(line), line
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    uuid = "22222222-2222-4222-8222-222222222222"
    assert values[f'xobackup_vm_late{{vm="database",uuid="{uuid}",job="nightly",pool="main"}}'] == "1"
    assert values['xobackup_job_last_run_ok{job="nightly"}'] == "0"
    assert values['xobackup_job_last_run_vms{job="nightly",outcome="failed"}'] == "1"
    assert (
        values['xobackup_remote_up{remote="gone"}'] == "0"
        and values['xobackup_remote_free_bytes{remote="nas"}'] == "1"
    )
    assert values['xobackup_schedule_state{schedule="night",state="idle"}'] == "1"
    assert float(values['xobackup_stage_seconds_24h{job="nightly",stage="transfer"}']) == 20.0
    replica = 'vm="web",uuid="11111111-1111-4111-8111-111111111111",job="nightly",target="dr"'
    assert values[f"xobackup_replica_lag_seconds{{{replica}}}"] == "900"
    assert values[f"xobackup_replica_usable{{{replica}}}"] == "1", "the better one of two"
    assert values['xobackup_target_up{target="dr"}'] == "1"
    samples = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "a sample is told once"
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "a family is told once"


def test_a_name_cannot_break_out_of_its_label(
    client: TestClient, house: PaperHouse, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    nasty = "33333333-3333-4333-8333-333333333333"
    monkeypatch.setitem(NAMES, nasty, 'a"} 1\nxobackup_vm_late{vm="b\\\x07' + "x" * 4096)
    one_run(house.journals, clock, "nasty", outcomes={nasty: "ok"})
    for line in client.get("/metrics").text.splitlines():
        assert line.startswith("# ") or LINE.match(line), line
        assert len(line) < 1200
