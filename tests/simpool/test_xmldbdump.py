"""The pool's database, out and in."""

from __future__ import annotations

import http.client
import time

import pytest

from xobackup.simpool import SimPool
from xobackup.simpool.http.xmldbdump import BadDump, dump, parse
from xotest.simclient import RpcFailure, SimClient


def put(client: SimClient, body: bytes, **query: str) -> dict[str, object]:
    task = client.call("task.create", "restore", "")
    assert client.put("/pool/xmldbdump", body, task_id=task, **query).status == 200
    return client.wait(task)


def after_restart(pool: SimPool, ended: str) -> SimClient:
    """A client once the toolstack is back: its restart begins after the answer, and drops whoever came too early."""
    deadline = time.monotonic() + 20
    while True:
        try:
            client = SimClient(pool)
            if not pool.toolstack.sessions.alive(ended) and client.call("session.get_uuid", client.session):
                return client
        except (OSError, http.client.HTTPException, RpcFailure):
            assert time.monotonic() < deadline, "the toolstack does not come back"
        time.sleep(0.05)


def test_a_dump_holds_every_record_and_reads_back_as_it_was(pool: SimPool, client: SimClient) -> None:
    client.call("VM.set_name_description", pool.vm_named("guest"), 'with "quotes", <brackets> & ünïcode')
    answer = client.get("/pool/xmldbdump")
    assert answer.status == 200 and not any(line.startswith("content-") for line in answer.lines)
    found = parse(answer.body)
    for cls in ("VM", "VDI", "VBD", "SR", "host", "pool", "network"):
        assert found[cls] == pool.model.records(cls)


def test_a_dry_run_changes_nothing(pool: SimPool, client: SimClient) -> None:
    body = client.get("/pool/xmldbdump").body
    vm = pool.vm_named("idle")
    client.call("VM.set_name_label", vm, "renamed")
    assert put(client, body, dry_run="true")["status"] == "success"
    assert client.call("VM.get_name_label", vm) == "renamed"


def test_a_restore_brings_the_records_back_and_ends_sessions(pool: SimPool, client: SimClient) -> None:
    body = client.get("/pool/xmldbdump").body
    vm, disk = pool.vm_named("idle"), pool.vdis_of(pool.vm_named("idle"))[0]
    client.call("VM.destroy", vm)
    client.call("VDI.destroy", disk)
    task = client.call("task.create", "restore", "")
    client.put("/pool/xmldbdump", body, task_id=task)
    with after_restart(pool, client.session) as again:
        assert again.call("VM.get_name_label", vm) == "idle"
        assert again.call("VDI.get_missing", disk) is True


@pytest.mark.parametrize("damage", ["cut", "empty", "schema", "doctype", "field"])
def test_what_is_no_dump_is_refused(pool: SimPool, client: SimClient, damage: str) -> None:
    body = dump(pool.toolstack)
    bad = {
        "cut": body[: len(body) // 2],
        "empty": b"<database/>",
        "schema": body.replace(b'schema_major_vsn" value="5"', b'schema_major_vsn" value="9"'),
        "doctype": body.replace(b"<database>", b"<!DOCTYPE database><database>"),
        "field": body.replace(b" virtual_size=", b" other_size="),
    }[damage]
    with pytest.raises(BadDump):
        parse(bad)
    before = pool.model.records("VM")
    assert put(client, bad)["error_info"] == ["RESTORE_INCOMPATIBLE_VERSION"]
    assert pool.model.records("VM") == before


def test_a_length_and_a_session_are_needed(client: SimClient) -> None:
    answer = client.exchange("PUT", "/pool/xmldbdump", {"session_id": client.session}, {"Connection": "close"})
    assert answer.status == 400
    assert client.exchange("GET", "/pool/xmldbdump", {"session_id": "no"}, {}).status == 401
