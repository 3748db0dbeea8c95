from __future__ import annotations

import pytest

from xobackup.xapi import other_config
from xobackup.xapi.errors import DuplicateKey, ProtocolError
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Fail, ScriptedXapi

REF = "OpaqueRef:vm"


@pytest.fixture
def maps(host: ScriptedXapi) -> dict[str, dict[str, str]]:
    """``other_config`` and ``blocked_operations`` of one VM, with XAPI's rules."""
    fields: dict[str, dict[str, str]] = {"other_config": {}, "blocked_operations": {}}

    def serve(field: str) -> None:
        def add(_ref: str, key: str, value: str) -> str:
            if key in fields[field]:
                raise Fail("MAP_DUPLICATE_KEY", "VM", field, REF, key)
            fields[field][key] = value
            return ""

        host.methods[f"VM.add_to_{field}"] = add
        host.methods[f"VM.remove_from_{field}"] = lambda _ref, key: fields[field].pop(key, "") and ""
        host.methods[f"VM.get_{field}"] = lambda _ref: dict(fields[field])

    for name in fields:
        serve(name)
    host.methods["VM.update_allowed_operations"] = lambda _ref: ""
    return fields


def test_keys_are_set_replaced_and_removed(session: Session, maps: dict[str, dict[str, str]]) -> None:
    other_config.set_keys(session, "VM", REF, {"a": "1", "b": "2"})
    other_config.set_keys(session, "VM", REF, {"a": "3", "b": None, "c": None})
    assert maps["other_config"] == {"a": "3"}


def test_a_key_added_in_between_is_replaced(
    host: ScriptedXapi, session: Session, maps: dict[str, dict[str, str]]
) -> None:
    host.queue("VM.add_to_other_config", Fail("MAP_DUPLICATE_KEY", "VM", "other_config", REF, "a"))
    other_config.set_key(session, "VM", REF, "a", "1")
    assert maps["other_config"] == {"a": "1"}


def test_a_quarrel_about_a_key_ends(host: ScriptedXapi, session: Session, maps: dict[str, dict[str, str]]) -> None:
    host.queue("VM.add_to_other_config", *[Fail("MAP_DUPLICATE_KEY", "VM", "x", REF, "a")] * 99)
    with pytest.raises(DuplicateKey):
        other_config.set_key(session, "VM", REF, "a", "1")
    assert len(host.called("VM.add_to_other_config")) == other_config.TRIES


def test_reset_takes_off_the_backup_keys_but_not_the_sr(session: Session, maps: dict[str, dict[str, str]]) -> None:
    maps["other_config"] |= {other_config.JOB: "j", other_config.SR: "s", "mine": "x"}
    other_config.reset_keys(session, "VM", REF)
    assert maps["other_config"] == {other_config.SR: "s", "mine": "x"}


def test_reset_of_known_keys_asks_only_for_those(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.remove_from_other_config"] = lambda _ref, key: ""
    other_config.reset_keys(session, "VM", REF, present=[other_config.JOB, "mine"])
    assert [params[2] for params in host.called("VM.remove_from_other_config")] == [other_config.JOB]


def test_operations_are_blocked_and_unblocked(
    host: ScriptedXapi, session: Session, maps: dict[str, dict[str, str]]
) -> None:
    assert other_config.block_operations(session, REF) == ["pool_migrate", "migrate_send"]
    assert maps["blocked_operations"] == dict.fromkeys(other_config.MIGRATIONS, other_config.BLOCK_REASON)
    assert other_config.block_operations(session, REF) == ["pool_migrate", "migrate_send"]  # again is the same
    assert other_config.unblock_operations(session, REF) == ["pool_migrate", "migrate_send"]
    assert maps["blocked_operations"] == {}
    assert len(host.called("VM.update_allowed_operations")) == 3


def test_what_an_administrator_blocked_stays_blocked(
    host: ScriptedXapi, session: Session, maps: dict[str, dict[str, str]]
) -> None:
    maps["blocked_operations"]["migrate_send"] = "never"
    assert other_config.block_operations(session, REF) == ["pool_migrate"]
    assert other_config.unblock_operations(session, REF) == ["pool_migrate"]
    assert maps["blocked_operations"] == {"migrate_send": "never"}
    assert other_config.unblock_operations(session, REF) == []


def test_a_map_that_is_none_is_a_protocol_error(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.get_blocked_operations"] = lambda _ref: 5
    with pytest.raises(ProtocolError):
        other_config.block_operations(session, REF)
