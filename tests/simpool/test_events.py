"""event.from: one event per object, in order, at once when something happened and promptly when it does."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from xobackup.simpool import SimPool
from xotest.simclient import RpcFailure, SimClient


def kinds(batch: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["class"], event["operation"]) for event in batch["events"]]


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


def now(client: SimClient) -> str:
    return str(client.call("event.from", ["*"], "", 0.0)["token"])


def test_an_empty_token_gives_everything_as_added(client: SimClient, vm: str) -> None:
    batch = client.call("event.from", ["VM"], "", 10.0)
    assert {event["operation"] for event in batch["events"]} == {"add"}
    assert len(batch["events"]) == len(client.call("VM.get_all")) == batch["valid_ref_counts"]["vm"]
    found = next(event for event in batch["events"] if event["ref"] == vm)
    assert found["snapshot"] == client.call("VM.get_record", vm)
    assert (found["class"], found["timestamp"]) == ("vm", "0.0") and found["id"].isdigit()


def test_a_token_has_two_numbers_of_twenty_digits(client: SimClient) -> None:
    first, comma, second = now(client).partition(",")
    assert (len(first), comma, len(second)) == (20, ",", 20)
    assert first.isdigit() and second.isdigit()


def test_several_changes_of_one_object_are_one_event_with_the_latest_record(client: SimClient, vm: str) -> None:
    token = now(client)
    for name in ("one", "two", "three"):
        client.call("VM.set_name_label", vm, name)
    batch = client.call("event.from", ["*"], token, 10.0)
    assert kinds(batch) == [("vm", "mod")]
    assert batch["events"][0]["snapshot"]["name_label"] == "three"


def test_created_is_added_modified_or_not_and_gone_is_deleted_without_record(client: SimClient) -> None:
    token = now(client)
    secret = client.call("secret.create", {"value": "x"})
    client.call("secret.set_value", secret, "y")
    batch = client.call("event.from", ["secret"], token, 10.0)
    assert kinds(batch) == [("secret", "add")]
    client.call("secret.destroy", secret)
    last = client.call("event.from", ["SECRET"], batch["token"], 10.0)
    assert kinds(last) == [("secret", "del")]
    assert "snapshot" not in last["events"][0]


def test_what_came_and_went_in_between_is_not_mentioned(client: SimClient) -> None:
    token = now(client)
    client.call("secret.destroy", client.call("secret.create", {"value": "x"}))
    assert client.call("event.from", ["secret"], token, 0.0)["events"] == []


def test_a_new_vbd_is_a_change_of_its_vm_too(client: SimClient, pool: SimPool) -> None:
    token = now(client)
    vbd = pool.model.get("VM", pool.vm_named("idle"))["VBDs"][0]
    client.call("VBD.destroy", vbd)
    found = kinds(client.call("event.from", ["VM", "VBD", "VDI"], token, 5.0))
    assert ("vm", "mod") in found and ("vbd", "del") in found and ("vdi", "mod") in found


def test_one_object_can_be_watched(client: SimClient, pool: SimPool, vm: str) -> None:
    token = now(client)
    client.call("VM.set_name_label", pool.vm_named("idle"), "other")
    assert client.call("event.from", [f"VM/{vm}"], token, 0.0)["events"] == []
    client.call("VM.set_name_label", vm, "mine")
    assert [event["ref"] for event in client.call("event.from", [f"vm/{vm}"], token, 5.0)["events"]] == [vm]


def test_it_waits_for_the_change_and_answers_promptly(pool: SimPool, client: SimClient, vm: str) -> None:
    token = now(client)

    def later() -> None:
        time.sleep(0.15)
        pool.call("pool.add_to_other_config", pool.toolstack.pool, "xo:barrier:1", "x")

    thread = threading.Thread(target=later)
    thread.start()
    batch = client.call("event.from", ["*"], token, 15.0)
    thread.join()
    assert ("pool", "mod") in kinds(batch)


def test_the_timeout_gives_no_events_and_a_token(client: SimClient) -> None:
    token = now(client)
    batch = client.call("event.from", ["VM"], token, 0.05)
    assert batch["events"] == [] and batch["token"] == token


def test_inject_forces_a_modification(client: SimClient, pool: SimPool) -> None:
    before = now(client)
    token = client.call("event.inject", "pool", pool.toolstack.pool)
    assert kinds(client.call("event.from", ["*"], before, 5.0)) == [("pool", "mod")]
    assert client.call("event.from", ["*"], token, 0.0)["events"] == []
    with pytest.raises(RpcFailure) as caught:
        client.call("event.inject", "pool", "OpaqueRef:no")
    assert (caught.value.code, caught.value.params) == ("HANDLE_INVALID", ["pool", "OpaqueRef:no"])


@pytest.mark.parametrize(
    ("classes", "token", "code", "params"),
    [
        (["dragon"], "", "EVENT_SUBSCRIPTION_PARSE_FAILURE", ["dragon"]),
        (["VM"], "yesterday", "EVENT_FROM_TOKEN_PARSE_FAILURE", ["yesterday"]),
        (["VM"], "1,2", "EVENT_FROM_TOKEN_PARSE_FAILURE", ["1,2"]),
    ],
)
def test_what_cannot_be_parsed(
    classes: list[str], token: str, code: str, params: list[str], client: SimClient
) -> None:
    with pytest.raises(RpcFailure) as caught:
        client.call("event.from", classes, token, 0.0)
    assert (caught.value.code, caught.value.params) == (code, params)


def test_sessions_have_no_events(client: SimClient, pool: SimPool) -> None:
    token = now(client)
    with SimClient(pool) as other:
        other.call("pool.get_all")
    batch = client.call("event.from", ["*"], token, 0.0)
    assert batch["events"] == [] and "session" not in batch["valid_ref_counts"]


def test_a_session_that_ends_wakes_its_waiting_call(pool: SimPool, client: SimClient) -> None:
    token = now(client)
    threading.Timer(0.1, lambda: pool.toolstack.sessions.end(client.session)).start()
    with pytest.raises(RpcFailure) as caught:
        client.call("event.from", ["*"], token, 15.0)
    assert caught.value.code == "SESSION_INVALID"


def test_messages_have_the_identifier_zero_and_their_own_generation(
    client: SimClient, pool: SimPool, vm: str
) -> None:
    token = now(client)
    uuid = pool.model.get("VM", vm)["uuid"]
    ref = client.call("message.create", "NEWS", 3, "VM", uuid, "something happened")
    batch = client.call("event.from", ["*"], token, 5.0)
    assert [(event["id"], event["ref"]) for event in batch["events"]] == [("0", ref)]
    assert batch["token"].partition(",")[2] != token.partition(",")[2]
    assert ref in client.call("message.get", "VM", uuid, "19700101T00:00:00Z")
    client.call("message.destroy", ref)
    assert kinds(client.call("event.from", ["message"], batch["token"], 5.0)) == [("message", "del")]


def test_the_old_way_of_events_still_works(client: SimClient, pool: SimPool) -> None:
    vm = pool.vm_named("guest")
    with pytest.raises(RpcFailure) as caught:
        client.call("event.next")
    assert (caught.value.code, caught.value.params) == ("SESSION_NOT_REGISTERED", [client.session])
    client.call("event.register", ["VM", "sr"])
    client.call("VM.set_name_description", vm, "told")
    (event,) = client.call("event.next")
    assert (event["class"], event["operation"], event["ref"]) == ("vm", "mod", vm)
    assert isinstance(event["id"], int) and event["obj_uuid"] == event["snapshot"]["uuid"]
    assert event["snapshot"]["name_description"] == "told"
    threading.Timer(0.05, lambda: pool.call("VM.set_name_description", vm, "waited for")).start()
    (event,) = client.call("event.next")
    assert event["snapshot"]["name_description"] == "waited for"
    client.call("event.unregister", ["vm", "SR"])
    with pytest.raises(RpcFailure, match="SESSION_NOT_REGISTERED"):
        client.call("event.next")
    with pytest.raises(RpcFailure, match="EVENT_SUBSCRIPTION_PARSE_FAILURE"):
        client.call("event.register", ["nonsense"])
