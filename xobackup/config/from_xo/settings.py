"""Options of a job, one by one: what each is here, or what is said about it.

``OPTIONS`` has every option that Xen Orchestra 6.7 knows; a test compares it with docs/xen-orchestra.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xobackup.config.from_xo.long_term import BadRetention, keep_of
from xobackup.config.from_xo.remarks import Level, plain
from xobackup.config.periods import seconds

MIB = 1 << 20


@dataclass(slots=True, kw_only=True)
class Draft:
    """Keys of a job in the making."""

    mode: str
    given: Mapping[str, Any]
    """All settings that hold for it."""
    values: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[Level, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.told.append((Level.NOTE, text))

    def differs(self, text: str) -> None:
        self.told.append((Level.DIFFERS, text))

    def flag(self, name: str) -> bool:
        return self.given.get(name) is True


Option = Callable[[Draft, str, Any], None]


def translate_settings(draft: Draft) -> None:
    """Go through ``draft.given``; afterwards ``draft`` says everything about it."""
    for name, value in draft.given.items():
        if value is None:
            continue
        option = OPTIONS.get(name)
        if option is None:
            shown = f" = {value}" if isinstance(value, bool | int | float) else ""  # a text may be a secret
            draft.differs(f"{plain(name, most=60)}{shown}: an option that is not known here")
        else:
            option(draft, name, value)


def count_of(draft: Draft, name: str, value: Any, low: int, high: int) -> int | None:
    """A whole number, brought within bounds; ``None`` (and a remark) when it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value != int(value):
        draft.differs(f"{name} = {_shown(value)}: expected a whole number, the default is used")
        return None
    found = min(max(int(value), low), high)
    if found != value:
        draft.differs(f"{name} = {_shown(value)}: {found} here, the {'most' if value > high else 'least'} there is")
    return found


def _shown(value: Any) -> str:
    return plain(value, most=60)


def _count(key: str, low: int, high: int, *, unlimited: int | None = None) -> Option:
    """A number that is a key of ours; ``unlimited`` stands for its 0."""

    def option(draft: Draft, name: str, value: Any) -> None:
        if unlimited is not None and value == 0 and not isinstance(value, bool):
            draft.values[key] = unlimited
            return
        found = count_of(draft, name, value, low, high)
        if found is not None:
            draft.values[key] = found

    return option


def _says(level: Level, text: str, *, unless: tuple[Any, ...] = ()) -> Option:
    """Only a remark; none when the value is one of ``unless``, that is, asks for nothing."""

    def option(draft: Draft, name: str, value: Any) -> None:
        if not any(value == one and type(value) is type(one) for one in unless):
            draft.told.append((level, f"{name} = {_shown(value)}: {text}"))

    return option


def _export_retention(draft: Draft, name: str, value: Any) -> None:
    if value == 0 and not isinstance(value, bool):
        return  # as if it were not there: nothing is written to remotes
    if (found := count_of(draft, name, value, 1, 100_000)) is not None:
        draft.values["retention"] = found


def _snapshot_retention(draft: Draft, name: str, value: Any) -> None:
    if (found := count_of(draft, name, value, 0, 1000)) is not None and found:
        draft.values["snapshot_retention"] = found


def _full_interval(draft: Draft, name: str, value: Any) -> None:
    if draft.mode == "full":
        draft.note(f"{name}: means nothing for full backups")
    elif (found := count_of(draft, name, value, 0, 1_000_000)) is not None and found:
        draft.values["full_interval"] = found


def _rate(draft: Draft, name: str, value: Any) -> None:
    if value == 0 and not isinstance(value, bool):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not MIB / 1000 <= value <= 1e6 * MIB:
        draft.differs(f"{name} = {_shown(value)}: expected bytes a second, no limit is set")
    else:
        draft.values["rate_limit_mib_s"] = round(value / MIB, 3)


def _prefer_nbd(draft: Draft, _name: str, value: Any) -> None:
    draft.values["nbd"] = "auto" if value is True else "off"
    if value is not True:
        draft.note('preferNbd is off: nbd = "off"; with "auto" less is read where the pool offers NBD')


def _purge(draft: Draft, name: str, value: Any) -> None:
    if value is not True:
        return
    if not draft.flag("preferNbd"):
        draft.note(f"{name}: not done, nor by Xen Orchestra, without preferNbd")
    elif draft.given.get("snapshotRetention"):
        draft.note(f"{name}: not done, nor by Xen Orchestra, with snapshotRetention")
    elif draft.mode == "full":
        draft.note(f"{name}: means nothing for full backups")
    else:
        draft.values["purge_snapshot_data"] = True


def _checkpoint(draft: Draft, name: str, value: Any) -> None:
    if value is True and (draft.flag("offlineSnapshot") or draft.flag("offlineBackup")):
        draft.note(f"{name}: a VM that is shut down has no memory to save")
    elif value is True:
        draft.values["snapshot"] = "memory"


def _offline_snapshot(draft: Draft, _name: str, value: Any) -> None:
    if value is True and not (draft.flag("offlineBackup") and draft.mode == "full"):
        draft.values["snapshot"] = "offline"


def _offline_backup(draft: Draft, name: str, value: Any) -> None:
    if value is not True:
        return
    if draft.mode == "full":
        draft.values["offline_backup"] = True
        return
    draft.values["snapshot"] = "offline"
    draft.differs(f"{name}: of deltas, VMs are started again right after their snapshot, not after the transfer")


def _bypass(draft: Draft, _name: str, value: Any) -> None:
    if value is True:
        draft.values["check_chains"] = False


def _synchronized(draft: Draft, name: str, value: Any) -> None:
    if value is False or value == "":
        return
    if value is True or isinstance(value, str):
        group: dict[str, Any] = {} if value is True else {"tag": value}
        most = draft.given.get("snapshotConcurrency")
        if most is not None and (found := count_of(draft, "snapshotConcurrency", most, 1, 64)) is not None:
            group["snapshots_max"] = found
        draft.values["consistent"] = group or True
    else:
        draft.differs(f"{name} = {_shown(value)}: expected true or a tag")


def _snapshot_concurrency(draft: Draft, name: str, _value: Any) -> None:
    if not draft.given.get("synchronizedSnapshot"):
        draft.note(f"{name}: means nothing without synchronizedSnapshot")


def _snapshot_name(draft: Draft, name: str, value: Any) -> None:
    if isinstance(value, str):
        ours = value.replace("{job.name}", "{job}").replace("{vm.name_label}", "{vm}")
        if not set("{}") & set(ours.replace("{job}", "").replace("{vm}", "")):
            draft.values["snapshot_name"] = ours
            return
    draft.differs(f"{name} = {_shown(value)}: only {{job.name}} and {{vm.name_label}} are known here")


def _long_term(draft: Draft, name: str, value: Any) -> None:
    if not value:
        return
    try:
        keep = keep_of(value, draft.given.get("timezone"))
    except BadRetention as error:
        harm = "without it the first run would delete the restore points that Xen Orchestra keeps by it"
        draft.refused.append(f"{name}: {error}; {harm}")
        return
    draft.values["keep"] = keep
    draft.values.setdefault("retention", 1)  # exportRetention may be 0 beside it; the newest is always kept here


def _timezone(draft: Draft, name: str, value: Any) -> None:
    del draft, name, value  # of longTermRetention, which asks for it; that of schedules is theirs


def _distribute(draft: Draft, name: str, value: Any) -> None:
    if value is True:
        draft.values["distribute"] = True
    elif value is not False:
        draft.differs(f"{name} = {_shown(value)}: expected true or false")


def _health_sr(draft: Draft, name: str, value: Any) -> None:
    if isinstance(value, str) and value:
        draft.values.setdefault("health_check", {})["sr"] = value
        draft.note(f"{name}: the SR is looked for in the job's own pool; health_check.pool names another")
    elif value != "":
        draft.differs(f"{name} = {_shown(value)}: expected the uuid of an SR")


def _has_health_sr(draft: Draft) -> bool:
    """Without an SR there is no check, and a table that lacks it would have the whole job refused."""
    found = draft.given.get("healthCheckSr")
    return isinstance(found, str) and bool(found)


def _health_tags(draft: Draft, name: str, value: Any) -> None:
    if isinstance(value, list) and all(isinstance(tag, str) and tag for tag in value):
        if value and _has_health_sr(draft):
            draft.values.setdefault("health_check", {})["tags"] = list(value)
        elif value:
            draft.note(f"{name}: without healthCheckSr there is no check")
    else:
        draft.differs(f"{name} = {_shown(value)}: expected tags")


def _health_timeout(draft: Draft, name: str, value: Any) -> None:
    """Milliseconds, or a text such as ``10m``."""
    if not _has_health_sr(draft):
        draft.note(f"{name}: without healthCheckSr there is no check")
        return
    text = f"{value / 1000:g}s" if isinstance(value, int | float) and not isinstance(value, bool) else value
    try:
        seconds(str(text))
    except ValueError:
        draft.differs(f"{name} = {_shown(value)}: expected a time such as 10m, the default is used")
        return
    draft.values.setdefault("health_check", {})["timeout"] = text


_NOT_ENFORCED = "not enforced by Xen Orchestra either; every wait of xobackup's has its own bound"
_NO_REPORT = "reports are not supported yet; see hooks, exit codes and --json"
_REPLICA = "replication is not supported yet"
OPTIONS: dict[str, Option] = {
    "exportRetention": _export_retention,
    "copyRetention": _says(Level.DIFFERS, _REPLICA, unless=(0,)),
    "snapshotRetention": _snapshot_retention,
    "longTermRetention": _long_term,
    "timezone": _timezone,
    "deleteFirst": _says(
        Level.NOTE, "never done here: the last good backup is not the price of the next", unless=(False,)
    ),
    "maxMergedDeltasPerRun": _says(
        Level.NOTE, 'all that is due is merged; merge = "later" leaves it to xobackup merge'
    ),
    "mergeBackupsSynchronously": _says(Level.NOTE, "merging is a part of the run, always", unless=(True,)),
    "fullInterval": _full_interval,
    "concurrency": _count("vms_max", 1, 64, unlimited=64),
    "diskPerVmConcurrency": _count("disks_max", 1, 64, unlimited=64),
    "nRetriesVmBackupFailures": _count("retries", 0, 10),
    "maxExportRate": _rate,
    "preferNbd": _prefer_nbd,
    "nbdConcurrency": _count("nbd_connections", 1, 8),
    "cbtDestroySnapshotData": _purge,
    "checkpointSnapshot": _checkpoint,
    "offlineSnapshot": _offline_snapshot,
    "offlineBackup": _offline_backup,
    "unconditionalSnapshot": _says(Level.NOTE, "a snapshot is always taken", unless=(False,)),
    "bypassVdiChainsCheck": _bypass,
    "synchronizedSnapshot": _synchronized,
    "snapshotConcurrency": _snapshot_concurrency,
    "snapshotNameLabelTpl": _snapshot_name,
    "distributeBackups": _distribute,
    "distributeReplications": _says(Level.DIFFERS, _REPLICA, unless=(False,)),
    "healthCheckSr": _health_sr,
    "healthCheckVmsWithTags": _health_tags,
    "healthCheckTimeout": _health_timeout,
    "reportWhen": _says(Level.DIFFERS, _NO_REPORT, unless=("never",)),
    "reportRecipients": _says(Level.DIFFERS, _NO_REPORT, unless=([],)),
    "backupReportTpl": _says(Level.DIFFERS, _NO_REPORT),
    "hideSuccessfulItems": _says(Level.DIFFERS, _NO_REPORT, unless=(False,)),
    "timeout": _says(Level.NOTE, _NOT_ENFORCED, unless=(0,)),
    "vmTimeout": _says(Level.NOTE, _NOT_ENFORCED, unless=(0,)),
    "getRemoteTimeout": _says(Level.NOTE, "remotes bound their own waits (ioTimeout in the URL)"),
    "useNbd": _says(Level.NOTE, "does nothing in Xen Orchestra", unless=(False,)),
    "validateVhdStreams": _says(Level.NOTE, "every stream is checked, always", unless=(False,)),
    "retentionPoolMetadata": _says(Level.NOTE, "means nothing for backups of VMs"),
    "retentionXoMetadata": _says(Level.NOTE, "means nothing for backups of VMs"),
}
