"""Events of a run as sentences for a person. One function per kind that is worth a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xobackup.texts import count_text, duration_text, size_text

if TYPE_CHECKING:
    from xobackup.engine.events import Event

Style = str | None


WAYS = {"cbt-nbd": "CBT and NBD", "list-nbd": "block list and NBD", "nbd-full": "NBD"}
"""Ways to read a disk that are worth a word; the export stream goes without saying."""


class Teller:
    """Turns events into ``(sentence, style)``; remembers the names of VMs it has heard of."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def tell(self, event: Event) -> tuple[str, Style] | None:
        """The line for ``event``, or ``None`` when it is not worth one."""
        fields: Mapping[str, Any] = {name: getattr(event, name) for name in event.__dataclass_fields__}
        if fields.get("vm_name"):
            self._names[fields["vm"]] = fields["vm_name"]
        sentence = _SENTENCES.get(event.kind)
        if sentence is None:
            return None
        told = sentence(fields)
        vm = self._names.get(fields.get("vm", ""), "")
        return (f"{vm}: {told[0]}" if vm and event.kind not in _WHOLE_RUN else told[0]), told[1]


def _started(event: Mapping[str, Any]) -> tuple[str, Style]:
    """The limits on bandwidth too: they may explain why it is slow."""
    slow = "".join(f"; {line}" for line in event["limits"] if line.startswith("bandwidth"))
    return f"{event['verb']} of job {event['job']} ({event['run_id']}){slow}", "bold"


def _taken(event: Mapping[str, Any]) -> tuple[str, Style]:
    site = f" of site {event['site']}" if event["site"] else ""
    again = f", delivery {event['delivery']}" if event["delivery"] > 1 else ""
    return f"done by a worker{site} on {event['host']}{again}", None


def _planned(event: Mapping[str, Any]) -> tuple[str, Style]:
    disks, archive = event["plan"]["disks"], event["plan"]["archive"]
    if archive:
        return f"full backup of {count_text(len(disks), 'disk')}: {archive['reason']}", None
    routes = [route for disk in disks for route in disk["routes"]]
    fulls = sum(route["mode"] == "full" for route in routes)
    told = [count_text(count, noun) for count, noun in ((fulls, "full"), (len(routes) - fulls, "delta")) if count]
    return f"{count_text(len(disks), 'disk')}: {', '.join(told) or 'nothing to transfer'}", None


def _transferred(event: Mapping[str, Any]) -> tuple[str, Style]:
    way = f" by {WAYS[event['via']]}" if event["via"] in WAYS else ""
    what = f"{event['mode']} of {event['disk_name'] or event['disk']}{way}"
    if not event["read_bytes"]:
        return f"{what}: {'no data' if event['mode'] == 'full' else 'nothing changed'}", None
    rate = event["read_bytes"] / event["duration_s"] if event["duration_s"] else 0
    slow = f", bottleneck: {event['bottleneck']}" if event["bottleneck"] else ""
    took = f"{size_text(event['read_bytes'])} in {duration_text(event['duration_s'])}"
    return f"{what}: {took} ({size_text(rate)}/s{slow})", None


def _archived(event: Mapping[str, Any]) -> tuple[str, Style]:
    rate = event["read_bytes"] / event["duration_s"] if event["duration_s"] else 0
    slow = f", bottleneck: {event['bottleneck']}" if event["bottleneck"] else ""
    took = f"{size_text(event['read_bytes'])} in {duration_text(event['duration_s'])}"
    return f"full of {count_text(event['disks'], 'disk')}: {took} ({size_text(rate)}/s{slow})", None


def _fell_back(event: Mapping[str, Any]) -> tuple[str, Style]:
    return f"full instead of a delta for {event['disk_name'] or event['disk']}: {event['reason']}", "yellow"


def _stepped_down(event: Mapping[str, Any]) -> tuple[str, Style]:
    name = event["disk_name"] or event["disk"]
    return f"{name} cannot be read by {event['via']}, goes on by {event['to']}: {event['reason']}", "yellow"


def _tracked(event: Mapping[str, Any]) -> tuple[str, Style]:
    name = event["disk_name"] or event["disk"]
    if event["lost"]:
        return f"changed block tracking of {name} was lost and is on again: {event['lost']}", "yellow"
    return f"changed block tracking of {name} switched on", None


def _published(event: Mapping[str, Any]) -> tuple[str, Style]:
    return f"restore point {event['point']} on {event['remote']} ({size_text(event['size_bytes'])})", "green"


def _pool_saved(event: Mapping[str, Any]) -> tuple[str, Style]:
    size = size_text(event["size_bytes"])
    return f"database of pool {event['pool_name']}: {event['point']} on {event['remote']} ({size})", "green"


def _pool_expired(event: Mapping[str, Any]) -> tuple[str, Style]:
    points = count_text(len(event["points"]), "backup")
    return f"{points} of a pool's database expired on {event['remote']}: {event['reason']}", None


def _pool_ended(event: Mapping[str, Any]) -> tuple[str, Style]:
    told, style = _ended(event)
    return f"database of pool {event['pool_name']}: {told}", style


def _pool_tried(event: Mapping[str, Any]) -> tuple[str, Style]:
    if event["ok"]:
        return f"the pool would take {event['point']}", "green"
    return f"the pool would not take {event['point']}: {event['reason']}", "red"


def _pool_restored(event: Mapping[str, Any]) -> tuple[str, Style]:
    told = f"the pool took {event['point']} as its database"
    if event["answers"]:
        return f"{told} and answers again", "green"
    return f"{told}, but does not answer yet: {event['reason']}", "yellow"


def _hook(event: Mapping[str, Any]) -> tuple[str, Style]:
    what = f"hook {event['hook']} ({event['on']})"
    if event["ok"]:
        return f"{what} done in {duration_text(event['duration_s'])}", None
    return f"{what} {event['error']}", "red" if event["stopped"] else "yellow"


def _group(event: Mapping[str, Any]) -> tuple[str, Style]:
    vms, span = count_text(len(event["vms"]), "VM"), duration_text(event["span_s"])
    without = f", without {', '.join(event['left_out'])}" if event["left_out"] else ""
    return f"snapshots of a consistent group: {vms} within {span}{without}", "yellow" if without else None


def _expired(event: Mapping[str, Any]) -> tuple[str, Style]:
    points = count_text(len(event["points"]), "restore point")
    return f"{points} expired on {event['remote']}: {event['reason']}", None


def _merged(event: Mapping[str, Any]) -> tuple[str, Style]:
    disks, blocks = count_text(event["disks"], "disk"), count_text(event["blocks"], "block")
    told = f"{blocks}, {size_text(event['moved_bytes'])} in {duration_text(event['duration_s'])}"
    return f"merged {disks} on {event['remote']}: {told if event['blocks'] else 'nothing had to move'}", None


def _failed(event: Mapping[str, Any]) -> tuple[str, Style]:
    pause = f" in {duration_text(event['retry_in_s'])}" if event.get("retry_in_s") else ""
    again = f" (will be tried again{pause})" if event["will_retry"] else ""
    hint = f"\n  hint: {event['hint']}" if event["hint"] else ""
    return f"error: {event['error']}{again}{hint}", "red"


def _ended(event: Mapping[str, Any]) -> tuple[str, Style]:
    reason = f": {event['reason']}" if event["reason"] else ""
    style = "green" if event["outcome"] == "ok" else "yellow" if event["outcome"] == "skipped" else "red"
    return f"{event['outcome']} in {duration_text(event['duration_s'])}{reason}", style


_WHOLE_RUN = {"run-started", "run-ended"}
_SENTENCES: dict[str, Callable[[Mapping[str, Any]], tuple[str, Style]]] = {
    "run-started": _started,
    "vm-skipped": lambda event: (f"skipped: {event['reason']}", "yellow"),
    "handed-out": lambda event: (f"for a worker: {event['reason']}", None),
    "taken-by-worker": _taken,
    "worker-lost": lambda event: (f"worker {event['worker']} was not heard of any more", "yellow"),
    "vm-planned": _planned,
    "hook-ended": _hook,
    "group-taken": _group,
    "disk-transferred": _transferred,
    "archive-transferred": _archived,
    "fell-back-to-full": _fell_back,
    "stepped-down": _stepped_down,
    "cbt-switched-on": _tracked,
    "vm-shut-down": lambda event: (f"shut down for its backup in {duration_text(event['duration_s'])}", None),
    "vm-started": lambda event: (f"started again, it was off for {duration_text(event['downtime_s'])}", None),
    "snapshot-data-kept": lambda event: (f"the snapshot keeps its data: {event['reason']}", None),
    "snapshot-data-purged": lambda event: (
        f"{count_text(event['disks'], 'disk')} of the snapshot purged: only change logs stay on the pool",
        None,
    ),
    "point-published": _published,
    "points-expired": _expired,
    "held-by-lock": lambda event: (f"held on {event['remote']}: {event['reason']}", None),
    "pool-saved": _pool_saved,
    "pool-points-expired": _pool_expired,
    "pool-ended": _pool_ended,
    "pool-tried": _pool_tried,
    "pool-restored": _pool_restored,
    "merged": _merged,
    "chains-awaited": lambda event: (
        f"waits at most {duration_text(event['wait_max_s'])}, others go first: {event['reason']}",
        "yellow",
    ),
    "bandwidth-changed": lambda event: (f"bandwidth now: {', '.join(event['limits'])}", None),
    "waited": lambda event: (f"waited {duration_text(event['duration_s'])} for {event['what']}", None),
    "leftover-cleaned": lambda event: (f"cleaned up {event['what']}: {event['reason']}", None),
    "warning": lambda event: (f"warning: {event['message']}", "yellow"),
    "error": _failed,
    "vm-ended": _ended,
}
