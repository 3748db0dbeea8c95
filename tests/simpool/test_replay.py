"""Every call that Xen Orchestra's backup engine makes, in its order, is served in the right shape.

The recordings name the objects of the pool they were made on. A replay keeps a dictionary from recorded references
to ours: known ones are bound at the start, others when a call that made them is carried out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import DiskSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xobackup.simpool.model import ClassModel, class_names
from xobackup.simpool.values import Type, parse_type
from xotest.simclient import RpcFailure, SimClient

FIXTURES = Path(__file__).parents[2] / "fixtures" / "xapi-calls"
SCENARIOS = sorted(path.stem for path in FIXTURES.glob("*.jsonl"))
REF = re.compile(r"OpaqueRef:[0-9a-f-]{36}")
BLOCK = 2 << 20


def recorded(scenario: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / f"{scenario}.jsonl").read_text().splitlines()]


def well_formed(value: Any, kind: Type, model: dict[str, ClassModel]) -> bool:
    """Whether a value is of a type of the data model, as JSON carries it, down to every field of every record."""
    match kind.kind:
        case "void":
            return value == ""
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "ref":
            return isinstance(value, str) and value.startswith("OpaqueRef:")
        case "datetime":
            return isinstance(value, str) and re.fullmatch(r"\d{8}T\d\d:\d\d:\d\dZ", value) is not None
        case "set":
            return isinstance(value, list) and all(well_formed(one, kind.of[0], model) for one in value)
        case "map":
            return isinstance(value, dict) and all(
                isinstance(key, str) and well_formed(one, kind.of[1], model) for key, one in value.items()
            )
        case "record":
            fields = model[kind.name].fields
            return set(value) == set(fields) and all(
                well_formed(value[name], field.type, model) for name, field in fields.items()
            )
    return isinstance(value, str)


class Replay:
    """One recording against one pool."""

    def __init__(self, pool: SimPool, client: SimClient, calls: list[dict[str, Any]]) -> None:
        self.pool = pool
        self.client = client
        self.calls = calls
        self.refs: dict[str, str] = {"OpaqueRef:NULL": "OpaqueRef:NULL"}
        self.uuids: dict[str, str] = {}
        self.token = ""
        self.served = 0

    def run(self) -> None:
        for call in self.calls:
            if call["kind"] == "http":
                self.transfer(call)
            else:
                self.rpc(call["method"], call["args"], ok=call["ok"])
            self.served += 1

    def bind(self, value: Any) -> Any:
        """The recorded arguments with our references and uuids."""
        if isinstance(value, dict):
            return {key: self.bind(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.bind(inner) for inner in value]
        if isinstance(value, str):
            return self.refs.get(value, self.uuids.get(value, value))
        return value

    def rpc(self, method: str, args: list[Any], *, ok: bool) -> None:
        if method == "session.login_with_password":
            result = self.client.raw_call(method, self.pool.username, self.pool.password)
        elif method == "system.listMethods":
            result = self.client.raw_call(method)
        elif method == "event.from":
            result = self.client.call(method, self.bind(args[1]), self.token, 0.05)
            self.token = result["token"]
        else:
            self.introduce(method, args)
            params = [self.client.session, *(self.bind(arg) for arg in args[1:])]
            if not ok:
                with pytest.raises(RpcFailure):
                    self.client.raw_call(method, *params)
                return
            result = self.call(method, params)
        self.check_shape(method, result)

    def call(self, method: str, params: list[Any]) -> Any:
        if method == "session.logout":
            return ""  # the test goes on with its session
        if method == "VMPP.get_all_records":
            with pytest.raises(RpcFailure, match="MESSAGE_REMOVED"):
                self.client.raw_call(method, *params)
            return {}  # gone from xapi; clients tolerate it
        result = self.client.raw_call(method, *params)
        if method.startswith("Async."):
            record = self.client.wait(result)
            deadline = time.monotonic() + 20
            while record["error_info"][:1] == ["VDI_IN_USE"]:  # let go of late; XO tries again
                assert time.monotonic() < deadline, (method, record["error_info"])
                result = self.client.raw_call(method, *params)
                record = self.client.wait(result)
            assert record["status"] == "success", (method, record["error_info"])
        return result

    def check_shape(self, method: str, result: Any) -> None:
        """What a call answered is what the data model says that it returns; an event batch is looked into."""
        if method == "VMPP.get_all_records":
            return  # refused, as asserted before
        wanted = self.pool.dispatcher.signature(method)
        assert wanted is not None
        returns = "task ref" if method.startswith("Async.") else wanted.returns
        if returns == "an event batch":
            assert set(result) == {"events", "valid_ref_counts", "token"}
            for event in result["events"]:
                self.check_event(event)
        elif wanted.name == "system.listMethods":
            assert all(isinstance(name, str) and "." in name for name in result)
        else:
            assert well_formed(result, parse_type(returns), self.pool.model.model), (method, returns, result)

    def check_event(self, event: dict[str, Any]) -> None:
        assert set(event) - {"snapshot"} == {"id", "timestamp", "class", "operation", "ref"}
        assert (event["operation"] == "del") == ("snapshot" not in event)
        kind = Type(kind="record", name=class_names()[event["class"]])
        assert "snapshot" not in event or well_formed(event["snapshot"], kind, self.pool.model.model), event

    # -- which of our objects stands for a recorded one

    def introduce(self, method: str, args: list[Any]) -> None:
        """Bind references that are seen for the first time, by the class of the call and what it asks."""
        cls = method.removeprefix("Async.").partition(".")[0]
        if method.endswith(".get_by_uuid") and args[1] not in self.uuids:
            self.uuids[args[1]] = self.pool.model.get(cls, self.candidate(cls))["uuid"]
        if method == "event.inject":
            cls = "pool"
        known = {"VM.create": ("VM", "VDI", "SR"), "VDI.create": ("SR",), "VBD.create": ("VM", "VDI")}
        for index, ref in enumerate(REF.findall(json.dumps(args[1:]))):
            if ref not in self.refs:
                classes = known.get(method, (cls,)) if index or method.endswith(".create") else (cls,)
                if method == "VIF.create":
                    classes = ("network", "VM") if index == 0 else ("VM",)
                self.refs[ref] = self.candidate(classes[min(index, len(classes) - 1)])

    def candidate(self, cls: str) -> str:
        """The newest object of a class that a client would mean (hidden disks and dom0 are not)."""
        with self.pool.model.lock:
            usable = [ref for ref, record in self.pool.model.where(cls) if self.usable(cls, record)]
        return usable[-1]

    def usable(self, cls: str, record: dict[str, Any]) -> bool:
        if cls == "VM":
            return not record["is_control_domain"]
        if cls == "VBD":
            return not self.pool.model.get("VM", record["VM"])["is_control_domain"]
        if cls == "VDI":
            return bool(record["managed"]) and not record["read_only"]
        return cls != "SR" or bool(record["content_type"] != "iso")

    def transfer(self, call: dict[str, Any]) -> None:
        query = {"task_id": self.client.call("task.create", "transfer", "")}
        if call["path"].startswith("/pool"):
            assert b"<database>" in self.client.get(call["path"], **query).body
            return
        query |= {name: self.refs[value] if name != "format" else value for name, value in call["query"].items()}
        if call["http"] == "GET":
            answer = self.client.get(call["path"], **query)
            assert answer.status == 200 and answer.body.startswith(b"conectix")
        else:
            body = self.client.get("/export_raw_vdi", vdi=new_disk(self.pool), format="vhd").body
            self.client.put(call["path"], b"", vdi=query["vdi"], format="vhd")  # its probe
            answer = self.client.put(call["path"], body, **query)
            assert answer.status == 200
        assert self.client.wait(query["task_id"])["status"] == "success"


def new_disk(pool: SimPool) -> str:
    record = {
        "SR": pool.default_sr,
        "virtual_size": BLOCK,
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }
    return str(pool.call("VDI.create", record))


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    spec = PoolSpec(
        srs=(SrSpec(name="local"),),
        vms=(VmSpec(name="guest", disks=(DiskSpec(size_bytes=2 * BLOCK),), power_state="Halted"),),
    )
    with SimPool.start(tmp_path / "pool", spec=spec) as started:
        yield started


def distinct_calls(scenario: str) -> list[str]:
    """Methods of a recording in the order of their first use."""
    return list(dict.fromkeys(call["method"] for call in recorded(scenario) if call["kind"] == "rpc"))


def test_there_are_recordings() -> None:
    assert SCENARIOS == ["cr1", "cr2", "delta", "full", "meta", "restore"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_method_of_a_recording_exists(scenario: str, pool: SimPool) -> None:
    listed = set(pool.dispatcher.list_methods())
    missing = [name for name in distinct_calls(scenario) if name.removeprefix("Async.") not in listed]
    assert missing == []


def what_was_there_before(pool: SimPool, scenario: str) -> dict[str, str]:
    """The objects that a second run finds from the first, by their recorded references."""
    if scenario not in ("delta", "cr2"):
        return {}
    guest = pool.vm_named("guest")
    snapshot = pool.call("VM.snapshot", guest, "[XO Backup] guest")
    found = objects_of(pool, guest, "88015aa9-3af3-4cc8-93c6-4ad1c7c817aa", "9eef0e84-b19c-435a-b2a6-b865691eb9fb")
    if scenario == "delta":
        old = objects_of(
            pool, snapshot, "279e90af-56bf-4cc3-ae89-f2beda10b4c8", "b67002bd-de80-49e6-b681-d5553040e662"
        )
        return found | old
    replica = pool.call("VM.copy", guest, "replica", "OpaqueRef:NULL")
    mark = pool.call("VM.snapshot", replica, "guest - cr")
    found |= objects_of(
        pool, snapshot, "7cd1f24d-2f3b-46a6-974b-799ef30cc5a6", "cd4520c9-2eff-4fe4-a0c4-123568121aff"
    )
    found |= objects_of(pool, replica, "06ffa362-e8e6-4091-af95-67f57db10813", "b1c6d740-a027-43cc-a984-b8f15a700dc9")
    found |= objects_of(pool, mark, "11fd36a7-8248-4594-9c8f-ecbee60fb1bc", "c857b5b2-16c9-4d12-8c97-ede10b2cef35")
    return found | {
        "OpaqueRef:be92603b-172c-4e29-ac7c-9a6afa7689ff": pool.model.get("VM", replica)["VIFs"][0],
        "OpaqueRef:c13ea4aa-6736-43ea-8d25-b7adc5de941f": pool.model.get("VM", replica)["VBDs"][0],
    }


def objects_of(pool: SimPool, ours: str, vm: str, vdi: str) -> dict[str, str]:
    return {f"OpaqueRef:{vm}": ours, f"OpaqueRef:{vdi}": pool.vdis_of(ours)[0]}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_recording_replays(scenario: str, pool: SimPool, client: SimClient) -> None:
    replay = Replay(pool, client, recorded(scenario))
    replay.refs |= what_was_there_before(pool, scenario)
    replay.run()
    assert replay.served == len(replay.calls)
