"""Xen Orchestra's own rules (facts about its engine, no code of it) find what they need on our replicas.

Its engine itself was recorded against the simulated pool; that recording is replayed in tests/simpool/test_replay.py.
"""

from __future__ import annotations

from typing import Any

from xotest.two_pools import TwoPools

JOB, SCHEDULE, VM, SR, TIME = (f"xo:backup:{key}" for key in ("job", "schedule", "vm", "sr", "datetime"))


def bases(two: TwoPools, content_key: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Managed snapshots on the SR with that content, and the disk that each is a snapshot of."""
    vdis = two.other.model.records("VDI")
    sr = two.other.sr_named(two.sr)
    return [
        (vdi, vdis[vdi["snapshot_of"]])
        for vdi in vdis.values()
        if vdi["managed"] and vdi["is_a_snapshot"] and vdi["SR"] == sr
        if vdi["other_config"].get("xo:backup:contentKey") == content_key
    ]


def retained(two: TwoPools) -> list[dict[str, Any]]:
    """What its retention counts, oldest first."""
    found = []
    for vm in two.other.model.records("VM").values():
        config = vm["other_config"]
        counts = config.get(VM) == two.lab.vm_uuid and JOB in config and SR in config and not vm["is_a_template"]
        if counts and (vm["is_a_snapshot"] or "start" in vm["blocked_operations"]) and not vm["snapshots"]:
            found.append(vm)
    return sorted(found, key=lambda vm: str(vm["other_config"][TIME]))


def test_it_would_continue_our_replica_and_keep_our_points(two: TwoPools) -> None:
    for number in range(3):
        two.lab.write(0, 0, bytes([number + 1]) * 4096)
        two.run()
    vms = two.other.model.records("VM")
    ((ref, replica),) = two.replicas().items()
    for vbd in two.lab.snapshots()[0]["VBDs"]:
        snapshot = two.lab.pool.model.get("VDI", two.lab.pool.model.get("VBD", vbd)["VDI"])
        assert snapshot["other_config"]["xo:backup:contentKey"] == snapshot["uuid"]
        ((base, active),) = bases(two, snapshot["uuid"])
        holders = [two.other.model.get("VBD", one)["VM"] for one in active["VBDs"]]
        assert holders == [ref] and vms[ref]["power_state"] == "Halted"
        store = two.other.toolstack.stores[two.other.sr_named(two.sr)]
        assert not store.node(active["uuid"]).bat.allocated(), "no block was changed after the snapshot"
        assert base["other_config"]["xo:copy_of"] == snapshot["uuid"]
    assert [vm["uuid"] for vm in retained(two)] == [point.uuid for point in reversed(two.points())]
    assert not {JOB, SCHEDULE, VM, TIME} & set(replica["other_config"]) and SR in replica["other_config"]
    assert two.points()[0].name == f"guest - nightly {two.points()[0].id}"
