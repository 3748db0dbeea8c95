"""The state file: Xen Orchestra's bytes, its older forms, and whatever else may lie there."""

from __future__ import annotations

import json
import uuid as uuids

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.errors import Malformed, VhdError
from vhd.merge.state import LegacyState, MergeState, Step, root_of, state_name, unpack_state

ROOT, TARGET = "22222222-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000010"
NAME = ".20260101T030000Z.vhd.merge.json"
GENUINE = (
    b'{"child":{"uuid":"22222222-0000-4000-8000-000000000010"},'
    b'"parent":{"uuid":"22222222-0000-4000-8000-000000000000"},'
    b'"chain":["20260101T030000Z.vhd","20260102T030000Z.vhd"],'
    b'"currentBlock":0,"mergedDataSize":2097152,"step":"mergeBlocks","diskSize":0}'
)


def fields(**changes: object) -> bytes:
    found = json.loads(GENUINE)
    found.update(changes)
    return json.dumps(found).encode()


def test_a_genuine_state_is_read_and_written_back_byte_for_byte() -> None:
    state = unpack_state(GENUINE, NAME)
    assert isinstance(state, MergeState)
    assert state.chain == ("20260101T030000Z.vhd", "20260102T030000Z.vhd")
    assert (state.root_uuid, state.target_uuid) == (uuids.UUID(ROOT), uuids.UUID(TARGET))
    assert (state.current_block, state.merged_bytes, state.step) == (0, 2097152, Step.MERGE_BLOCKS)
    assert state.pack() == GENUINE


def test_names_of_state_files() -> None:
    assert state_name("20260101T030000Z.vhd") == NAME
    assert root_of(NAME) == "20260101T030000Z.vhd"
    assert root_of(".a.alias.vhd.merge.json") == "a.alias.vhd"
    for other in ("a.vhd", ".a.vhd", "a.vhd.merge.json", ".merge.json", ".a.txt.merge.json"):
        assert root_of(other) is None


@pytest.mark.parametrize("current", [None, -1, 0, 0.0])
def test_no_block_done_yet_is_written_in_several_ways(current: object) -> None:
    state = unpack_state(fields(currentBlock=current, mergedDataSize=None), NAME)
    assert (state.current_block, state.merged_bytes) == (0, 0)


def test_states_of_older_versions_name_no_chain() -> None:
    raw = json.dumps(
        {"child": {"header": 123}, "parent": {"header": 456}, "currentBlock": 7, "step": "cleanupVhds"}
    ).encode()
    state = unpack_state(raw, NAME)
    assert isinstance(state, LegacyState)
    assert (state.root, state.target_uuid, state.target_header_checksum) == ("20260101T030000Z.vhd", None, 123)
    assert (state.root_header_checksum, state.current_block, state.step) == (456, 7, Step.CLEANUP)


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": ["20260101T030000Z.vhd"]},
        {"chain": ["20260102T030000Z.vhd", "20260101T030000Z.vhd"]},
        {"chain": ["20260101T030000Z.vhd", "../20260102T030000Z.vhd"]},
        {"chain": ["20260101T030000Z.vhd", "/etc/x.vhd"]},
        {"chain": ["20260101T030000Z.vhd", "x\0.vhd"]},
        {"chain": ["20260101T030000Z.vhd", ".hidden.vhd"]},
        {"chain": ["20260101T030000Z.vhd", "20260101T030000Z.vhd"]},
        {"chain": ["20260101T030000Z.vhd", 5]},
        {"chain": "20260101T030000Z.vhd"},
        {"chain": [f"{number}.vhd" for number in range(2000)]},
        {"child": {"uuid": "no"}},
        {"child": {}},
        {"child": None},
        {"parent": []},
        {"step": "party"},
        {"currentBlock": "3"},
        {"currentBlock": True},
        {"currentBlock": float("inf")},
        {"mergedDataSize": 1e300},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_what_makes_no_sense_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(Malformed, match="merge-state"):
        unpack_state(fields(**changes), NAME)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["child", "parent", "chain", "currentBlock", "mergedDataSize", "step", "diskSize"]


@given(raw=st.binary(max_size=200))
def test_any_bytes_raise_only_vhd_errors(raw: bytes) -> None:
    with pytest.raises(VhdError):
        unpack_state(raw, NAME)


@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_any_fields_raise_only_vhd_errors_and_what_is_read_can_be_written(changes: dict[str, object]) -> None:
    try:
        state = unpack_state(fields(**changes), NAME)
    except VhdError:
        return
    if isinstance(state, MergeState):
        assert unpack_state(state.pack(), NAME) == state
