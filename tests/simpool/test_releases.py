"""Older hosts: calls and fields they do not have, and how they say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import Options, PoolSpec, SimPool
from xobackup.simpool.model import load_model
from xobackup.simpool.releases import Release, unknown_to
from xotest.simclient import RpcFailure, SimClient


@pytest.fixture
def old(tmp_path: Path, spec: PoolSpec, request: pytest.FixtureRequest) -> Iterator[SimClient]:
    options = Options.of_release(request.param, old_error_shape=False)
    with SimPool.start(tmp_path, spec=spec, options=options) as pool, SimClient(pool) as client:
        yield client


def refusal(client: SimClient, method: str, *params: Any) -> list[str]:
    with pytest.raises(RpcFailure) as caught:
        client.call(method, *params)
    return [caught.value.code, *caught.value.params]


@pytest.mark.parametrize("old", ["7.1"], indirect=True)
class TestSevenOne:
    def test_there_is_no_tracking_no_nbd_and_no_field_for_it(self, old: SimClient) -> None:
        vdi = old.pool.vdis_of(old.pool.vm_named("guest"))[0]
        record = old.call("VDI.get_record", vdi)
        assert "cbt_enabled" not in record and "virtual_size" in record
        assert all("purpose" not in network for network in old.call("network.get_all_records").values())
        for method in ("VDI.get_cbt_enabled", "VDI.enable_cbt", "VDI.get_nbd_info", "VDI.data_destroy"):
            assert refusal(old, method, vdi) == ["MESSAGE_METHOD_UNKNOWN", method]
        assert not {"VDI.enable_cbt", "VDI.get_cbt_enabled"} & set(old.raw_call("system.listMethods"))

    def test_events_show_what_the_records_show(self, old: SimClient) -> None:
        batch = old.call("event.from", ["VDI", "VTPM"], "", 1.0)
        assert batch["events"] and all("cbt_enabled" not in event["snapshot"] for event in batch["events"])
        assert "vtpm" in batch["valid_ref_counts"]

    def test_a_third_parameter_of_snapshot_is_too_much(self, old: SimClient) -> None:
        vm = old.pool.vm_named("guest")
        expected = ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.snapshot", "2", "3"]
        assert refusal(old, "VM.snapshot", vm, "s", []) == expected
        assert old.call("VM.get_record", old.call("VM.snapshot", vm, "s"))["is_a_snapshot"]

    def test_the_host_says_which_it_is(self, old: SimClient) -> None:
        (host,) = old.call("host.get_all_records").values()
        assert (host["API_version_minor"], host["software_version"]["product_version"]) == (6, "7.1.0")
        assert "certificates" not in host


@pytest.mark.parametrize("old", ["8.2"], indirect=True)
def test_eight_two_tracks_but_lacks_what_came_later(old: SimClient) -> None:
    vdi = old.pool.vdis_of(old.pool.vm_named("guest"))[0]
    old.call("VDI.enable_cbt", vdi)
    assert old.call("VDI.get_record", vdi)["cbt_enabled"] is True
    assert "https_only" not in next(iter(old.call("host.get_all_records").values()))
    task = old.call("task.create", "mine", "")
    old.call("task.set_progress", task, 0.5)
    assert refusal(old, "task.set_result", task, "x") == ["MESSAGE_METHOD_UNKNOWN", "task.set_result"]


@pytest.mark.parametrize("release", ["7.1", "8.2"])
def test_each_release_knows_a_part_of_the_next(release: Release) -> None:
    unknown = unknown_to(release)
    assert unknown.messages > unknown_to("8.3").messages == frozenset()
    assert unknown_to("7.1").messages > unknown_to("8.2").messages
    for name, hidden in unknown.fields.items():
        assert hidden <= set(load_model()[name].fields)
    assert {"VM", "VDI", "SR", "host", "task", "pool"}.isdisjoint(unknown.classes)
