"""What an auditor reads of a trial: which VMs came up from which restore points, and when. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xobackup.engine.dr.bring_up import VmOutcome
from xobackup.engine.health.report import page, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One test of a plan. ``network``: ``""`` when its VMs had no NICs."""

    plan: str
    target: str
    pool: str
    network: str
    started_at: str
    rpo_s: float | None
    problems: tuple[str, ...]
    vms: tuple[VmOutcome, ...]

    @property
    def ok(self) -> bool:
        """Every VM came up, none is missing."""
        return bool(self.vms) and not self.problems and all(one.ok for one in self.vms)

    @property
    def rto_s(self) -> float:
        """From the beginning to the last VM's being ready."""
        return max((one.ready_after_s for one in self.vms if one.ok), default=0.0)

    def as_data(self) -> dict[str, Any]:
        """For JSON, stable keys."""
        return {
            **asdict(self),
            "vms": [one.as_data() for one in self.vms],
            "ok": self.ok,
            "failed": sum(not one.ok for one in self.vms),
            "rto_s": self.rto_s,
            "rpo_measured_s": max((one.age_s for one in self.vms if one.point), default=0.0),
        }


def as_json(data: Mapping[str, Any]) -> str:
    """``data``: as :meth:`Trial.as_data` gives it."""
    return json.dumps(data, indent=2) + "\n"


def as_html(data: Mapping[str, Any]) -> str:
    """One page, readable when printed."""
    vms: Sequence[Mapping[str, Any]] = data["vms"]
    passed = f"{len(vms) - data['failed']} of {len(vms)} VMs came up"
    rpo = "" if data["rpo_s"] is None else f" (asked for: {data['rpo_s']:.0f} s)"
    where = f"network {data['network']}" if data["network"] else "no network"
    problems = "".join(f"<li>{text(one)}</li>" for one in data["problems"])
    intro = (
        f"<p>Begun at {text(data['started_at'])}, from the replicas at {text(data['target'])} in pool "
        f"{text(data['pool'])}, {text(where)}. "
        f'<span class="{"ok" if data["ok"] else "bad"}">{passed}</span>. Time to recovery of all of them: '
        f"{data['rto_s']:.1f} s. Oldest restore point used: {data['rpo_measured_s']:.0f} s{rpo}.</p>\n"
        + (f"<ul>{problems}</ul>\n" if problems else "")
    )
    head = ("group", "VM", "restore point", "result", "steps", "ready after")
    return page(f"Disaster recovery test: {data['plan']}", intro, head, [_row(one) for one in vms])


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    steps = "<br>".join(
        f"{text(step['name'])}: {step['seconds']:.1f} s{'' if step['ok'] else ' (failed)'}" for step in one["steps"]
    )
    result = (
        '<span class="ok">ready</span>' if one["ok"] else f'<span class="bad">failed</span>: {text(one["reason"])}'
    )
    notes = [*one["warnings"], *([] if one["removed"] else ["its VM could not be removed yet"])]
    return (
        text(one["group"]),
        f"{text(one['name'])}<br><small>{text(one['vm_uuid'])}</small>",
        f"{text(one['point'])}<br><small>{one['age_s']:.0f} s old</small>" if one["point"] else "none",
        result + "".join(f"<br>{text(note)}" for note in notes),
        steps,
        f"{one['ready_after_s']:.1f} s" if one["ok"] else "",
    )
