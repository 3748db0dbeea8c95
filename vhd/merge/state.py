"""The state file of a merge, as Xen Orchestra writes and reads it, so that either resumes what the other began.

It lies beside the disks and is called ``.<file name of the root>.merge.json``:

    {"child": {"uuid": target}, "parent": {"uuid": root},
     "chain": [root, ..., target], "currentBlock": 0, "mergedDataSize": 0, "step": "mergeBlocks", "diskSize": 0}

Blocks below ``currentBlock`` are merged for good. ``step`` is ``mergeBlocks`` until the root is whole under its new
identity, ``cleanup`` from then on. Older versions of Xen Orchestra wrote no ``chain`` (:class:`LegacyState`).
"""

from __future__ import annotations

import json
import uuid as uuids
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vhd.errors import Malformed
from vhd.findings import Finding

PREFIX, SUFFIX = ".", ".merge.json"
STATE_MAX_BYTES = 1 << 20
CHAIN_MAX = 1024
NUMBER_MAX = 1 << 62


class Step(StrEnum):
    MERGE_BLOCKS = "mergeBlocks"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeState:
    """A merge under way."""

    root_uuid: uuids.UUID
    """The root's before the merge; at the end it takes the target's."""
    target_uuid: uuids.UUID
    chain: tuple[str, ...]
    """File names, root first, target last."""
    current_block: int = 0
    merged_bytes: int = 0
    step: Step = Step.MERGE_BLOCKS
    disk_size: int = 0
    """Written by Xen Orchestra, as 0; kept."""

    @property
    def root(self) -> str:
        return self.chain[0]

    @property
    def target(self) -> str:
        return self.chain[-1]

    def pack(self) -> bytes:
        """The file's content, keys in Xen Orchestra's order, no spaces."""
        fields = {
            "child": {"uuid": str(self.target_uuid)},
            "parent": {"uuid": str(self.root_uuid)},
            "chain": list(self.chain),
            "currentBlock": self.current_block,
            "mergedDataSize": self.merged_bytes,
            "step": str(self.step),
            "diskSize": self.disk_size,
        }
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyState:
    """A state file without ``chain``: the child has to be found by uuid, else by its header's checksum."""

    root: str
    target_uuid: uuids.UUID | None
    target_header_checksum: int | None
    root_header_checksum: int | None
    current_block: int
    merged_bytes: int
    step: Step


def state_name(root: str) -> str:
    """The name of the state file of a merge into ``root``."""
    return f"{PREFIX}{root}{SUFFIX}"


def root_of(name: str) -> str | None:
    """The root that a state file's name speaks of; ``None`` for other files."""
    if not name.startswith(PREFIX) or not name.endswith(SUFFIX):
        return None
    root = name[len(PREFIX) : -len(SUFFIX)]
    return root if root.endswith(".vhd") else None


def unpack_state(raw: bytes, name: str) -> MergeState | LegacyState:
    """Parse the state file called ``name``. Raises :class:`Malformed`."""
    root = root_of(name)
    if root is None:
        raise _malformed(name, f"expected a name like {state_name('<disk>.vhd')}")
    fields = _object(raw, name)
    child, parent = _part(fields, "child", name), _part(fields, "parent", name)
    current, merged = fields.get("currentBlock"), fields.get("mergedDataSize")
    current_block = max(0, _number(current, "currentBlock", name))
    merged_bytes = max(0, _number(merged, "mergedDataSize", name))
    step = _step(fields.get("step"), name)
    if fields.get("chain") is None:
        return LegacyState(
            root=root,
            target_uuid=_uuid(child, name) if "uuid" in child else None,
            target_header_checksum=_checksum(child),
            root_header_checksum=_checksum(parent),
            current_block=current_block,
            merged_bytes=merged_bytes,
            step=step,
        )
    return MergeState(
        root_uuid=_uuid(parent, name),
        target_uuid=_uuid(child, name),
        chain=_chain(fields["chain"], root, name),
        current_block=current_block,
        merged_bytes=merged_bytes,
        step=step,
        disk_size=max(0, _number(fields.get("diskSize"), "diskSize", name)),
    )


def _object(raw: bytes, name: str) -> dict[str, Any]:
    if len(raw) > STATE_MAX_BYTES:
        raise _malformed(name, f"expected at most {STATE_MAX_BYTES} bytes, found {len(raw)}")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _malformed(name, f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _malformed(name, f"expected an object, found {type(fields).__name__}")
    return fields


def _part(fields: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    part = fields.get(key)
    if not isinstance(part, dict):
        raise _malformed(name, f"{key}: expected an object, found {type(part).__name__}")
    return part


def _uuid(part: dict[str, Any], name: str) -> uuids.UUID:
    text = part.get("uuid")
    try:
        if isinstance(text, str):
            return uuids.UUID(text)
    except ValueError:
        pass
    raise _malformed(name, f"expected a uuid, found {str(text)[:64]!r}")


def _checksum(part: dict[str, Any]) -> int | None:
    found = part.get("header")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _number(value: object, key: str, name: str) -> int:
    """Numbers come as null, as -1 (nothing done yet), or as floats from JavaScript."""
    if value is None:
        return 0
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -NUMBER_MAX < value < NUMBER_MAX:
        return int(value)
    raise _malformed(name, f"{key}: expected a number, found {str(value)[:64]!r}")


def _step(value: object, name: str) -> Step:
    if value is None or value == Step.MERGE_BLOCKS:
        return Step.MERGE_BLOCKS
    if value in (Step.CLEANUP, "cleanupVhds"):
        return Step.CLEANUP
    raise _malformed(name, f"step: expected mergeBlocks or cleanup, found {str(value)[:64]!r}")


def _chain(value: object, root: str, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= CHAIN_MAX:
        raise _malformed(name, f"chain: expected 2 to {CHAIN_MAX} names, found {str(value)[:64]!r}")
    chain = tuple(text.removeprefix("./") if isinstance(text, str) else "" for text in value)
    for member in chain:
        if not member.endswith(".vhd") or "/" in member or "\\" in member or member.startswith(".") or "\0" in member:
            raise _malformed(name, f"chain: expected names of disks beside the state file, found {member[:64]!r}")
    if len(set(chain)) != len(chain):
        raise _malformed(name, "chain: a name occurs twice")
    if chain[0] != root:
        raise _malformed(name, f"chain: expected {root} first, found {chain[0]}")
    return chain


def _malformed(name: str, message: str) -> Malformed:
    return Malformed(name, [Finding(code="merge-state", message=message)])
