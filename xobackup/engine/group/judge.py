"""What the trouble of some members means for the others. Pure.

A member without disks is no trouble. When ``if_one_fails`` is ``stop``, one that cannot have its snapshot takes all
with it, and one that waits for its chains makes all wait; when it is ``go-on``, the others go on without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xobackup.engine.errors import Cancelled, ChainsUnhealthy, EngineError, GroupFailed, VmSkipped
from xobackup.engine.job import IfOneFails
from xobackup.engine.turns.retry import may_pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A VM and what went wrong with it so far; ``patient``: it may wait for its chains."""

    uuid: str
    name: str
    error: Exception | None = None
    patient: bool = False

    @property
    def waits(self) -> bool:
        return isinstance(self.error, ChainsUnhealthy) and self.patient


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``ends``: errors for members that were well, or only waited; ``left_out``: reasons by uuid, where the others go
    on; ``final``: no other attempt makes the group whole."""

    ends: Mapping[str, EngineError]
    left_out: Mapping[str, str]
    final: GroupFailed | None = None


def judge(members: Sequence[Member], policy: IfOneFails) -> Verdict:
    """Look at all members after a stage that all have been through."""
    well = [member for member in members if member.error is None]
    troubled = [member for member in members if member.error is not None and not isinstance(member.error, VmSkipped)]
    if not troubled:
        return Verdict(ends={}, left_out={})
    if policy is IfOneFails.GO_ON:
        return Verdict(ends={}, left_out={one.uuid: str(one.error) for one in troubled})
    stopped = next((one.error for one in troubled if isinstance(one.error, Cancelled)), None)
    if stopped is not None:
        return Verdict(ends={one.uuid: Cancelled(str(stopped)) for one in well}, left_out={})
    waiting = [one for one in troubled if one.waits]
    failed = [one for one in troubled if not one.waits]
    if failed:
        error = _group_failed(failed)
        ends = {one.uuid: error for one in (*well, *waiting)}
        return Verdict(ends=ends, left_out={}, final=None if error.transient else error)
    told = f"its group waits for {waiting[0].name or waiting[0].uuid}: {waiting[0].error}"
    return Verdict(ends={one.uuid: ChainsUnhealthy(told, ()) for one in well}, left_out={})


def _group_failed(failed: Sequence[Member]) -> GroupFailed:
    told = "; ".join(f"{one.name or one.uuid}: {one.error}" for one in failed)
    passes = all(one.error is not None and may_pass(one.error) for one in failed)
    hints = [getattr(one.error, "hint", "") or "" for one in failed]
    message = f"its consistent group cannot be backed up without {told}"
    return GroupFailed(message, hint=next((hint for hint in hints if hint), ""), transient=passes)
