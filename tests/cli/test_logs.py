"""The log of ``run``: every line says which run and which VM it is about, as text and as JSON, and no secret."""

from __future__ import annotations

import json
import logging
import re

from xobackup.cli.logs import JSON, FromLibraries, Lines
from xobackup.engine.events import Failed, RunEnded, RunStarted, VmPlanned
from xotest.site import PASSWORD, Site

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
LINE = re.compile(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*) run={UUID}( vm={UUID})?")


def test_lines_carry_the_ids_of_run_and_vm(site: Site) -> None:
    first = site.xobackup("run", "--log-format", "json", "--vm", "web")
    records = [json.loads(line) for line in first.err.splitlines()]
    assert records and all(re.fullmatch(UUID, one["run"]) and one["job"] == "nightly" for one in records)
    (run,) = {one["run"] for one in records}
    of_vm = [one for one in records if "vm" in one]
    assert len(of_vm) >= 4 and {(one["vm"], one["vm_name"]) for one in of_vm} == {(site.uuid("web"), "web")}
    assert records[-1]["text"].startswith("run ended: ok in ")
    assert "job nightly: ok" in first.out, "what a run came to is still on standard output"

    site.configure("[log]", 'format = "text"')
    site.pool.faults.fail_call("VM.snapshot*", "INTERNAL_ERROR", ["no"], times=2)
    second = site.xobackup("run", code=1)
    log = [line for line in second.err.splitlines() if not line.startswith(("error: ", "hint: "))]
    found = [LINE.fullmatch(line) for line in log]
    assert all(found), log
    assert {one[2] for one in found if one and "error: " in one[1] and "web" in one[1]} == {f" vm={site.uuid('web')}"}
    assert run not in second.err and PASSWORD not in first.err + second.err
    assert "expected text or json" in site.xobackup("run", "--log-format", "xml", code=2).err


def test_whatever_names_hold_a_line_stays_a_line(capsys: object) -> None:
    from xobackup.cli.logs import EventLines

    evil = "x\n2026-01-01T00:00:00Z nightly: ended: ok\r\x1b[31m\udc80"
    for form in ("text", JSON):
        lines = Lines(form)
        sink = EventLines(lines, schedule="nightly")
        started = RunStarted(run_id="r1", verb="run", job="j", job_id="i", version="1", host="h", pid=1)
        ended = RunEnded(run_id="r1", outcome="failed", ok=0, failed=1, skipped=0, duration_s=1.5, reason=evil)
        plan = {"disks": [], "archive": None}
        failed = Failed(vm="v1", error=evil, error_class="X", hint="do it")
        for event in (started, VmPlanned(vm="v1", vm_name=evil, plan=plan), failed, ended):
            sink.write(event)
        with FromLibraries(lines):
            logging.getLogger("some.library").warning("odd: %s", evil.rstrip("\udc80"))
        told = capsys.readouterr().err.split("\n")[:-1]  # type: ignore[attr-defined]
        assert len(told) == 5 and not any(char in line for line in told for char in "\r\x1b")
        if form == JSON:
            assert [json.loads(line).get("vm") for line in told] == [None, "v1", "v1", None, None]
            assert json.loads(told[2])["text"].endswith("(hint: do it)") and json.loads(told[2])["level"] == "error"
        else:
            assert told[1].endswith(" run=r1 vm=v1") and told[3].endswith(" run=r1")
            assert "Z warning: some.library: odd: x" in told[4]
