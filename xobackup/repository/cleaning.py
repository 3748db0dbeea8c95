"""Carry out a clean-up that was shown and wanted, under the VM's lock.

The plan is made anew: only what was wanted, is still found, and is certain is done. Deleting happens to leftovers
and to what can be made again; everything else is moved to ``.xobackup/quarantine/<vm>/<time>/`` under its old path,
from where it can be moved back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from remotes.contract import Remote
from remotes.errors import AccessDenied, NotFound
from remotes.names import split
from vhd.alias import is_alias, read_alias
from vhd.errors import VhdError
from xobackup.clock import Clock
from xobackup.repository.caching import drop_cache, rebuild_cache
from xobackup.repository.clean import is_directory, plan_clean
from xobackup.repository.findings import Action, CleanFinding
from xobackup.repository.layout import quarantine_directory, timestamp_name, vm_directory
from xobackup.repository.lock_rule import LockRule
from xobackup.repository.workspace import RemoteWorkspace


@dataclass(slots=True, kw_only=True)
class CleanReport:
    """What was done, and what was wanted but left alone."""

    done: list[CleanFinding] = field(default_factory=list)
    left: list[CleanFinding] = field(default_factory=list)
    quarantine: str = ""
    """Where things were moved, if any were."""


def apply_clean(
    remote: Remote,
    vm: str,
    *,
    clock: Clock,
    check: Callable[[], None],
    wanted: Collection[CleanFinding] | None = None,
    rule: LockRule | None = None,
) -> CleanReport:
    """Do what ``wanted`` (everything proposed, by default) asks for, as far as it is certain now."""
    keys = None if wanted is None else {_key(finding) for finding in wanted}
    now_s = clock.now_s()
    plan = [
        finding for finding in plan_clean(remote, vm, now_s=now_s, rule=rule) if finding.action is not Action.NONE
    ]
    chosen = [finding for finding in plan if keys is None or _key(finding) in keys]
    cleaner = _Cleaner(remote, vm, quarantine_directory(vm, timestamp_name(int(now_s * 1000))))
    report = CleanReport()
    points_changed = any(_is_point(finding) and finding.certain for finding in chosen)
    if points_changed:
        check()
        drop_cache(remote, vm)
    for finding in chosen:
        if not finding.certain:
            report.left.append(finding)
            continue
        check()
        try:
            cleaner.apply(finding)
        except AccessDenied as error:  # an immutable file, or one of somebody else's: the rest goes on
            told = replace(finding, certain=False, reason=f"{finding.reason}; but {error}")
            report.left.append(told)
            continue
        report.done.append(finding)
    if points_changed:
        rebuild_cache(remote, vm)
    report.quarantine = cleaner.quarantine if cleaner.moved else ""
    return report


def _key(finding: CleanFinding) -> tuple[str, str, Action]:
    return finding.problem.code, finding.problem.path, finding.action


def _is_point(finding: CleanFinding) -> bool:
    return finding.problem.code == "point-incomplete"


class _Cleaner:
    def __init__(self, remote: Remote, vm: str, quarantine: str) -> None:
        self.quarantine = quarantine
        self.moved = False
        self._remote = remote
        self._vm = vm

    def apply(self, finding: CleanFinding) -> None:
        path = finding.problem.path
        if finding.action is Action.REBUILD:
            rebuild_cache(self._remote, self._vm)
        elif finding.action is Action.DELETE:
            self._delete(path)
        elif finding.action is Action.QUARANTINE:
            self._set_aside(path)

    def _delete(self, path: str) -> None:
        """An alias goes before its objects: without it they are litter, without them it would be damage."""
        data = self._data_of(path)
        if is_directory(self._remote, path):
            self._remote.delete_tree(path)
        else:
            self._remote.delete(path, missing_ok=True)
        if data is not None:
            self._remote.delete_tree(data)

    def _set_aside(self, path: str) -> None:
        data = self._data_of(path)
        for each in (path, data):
            if each is not None and (each == path or is_directory(self._remote, each)):
                inside = each.removeprefix(vm_directory(self._vm) + "/")
                self._remote.rename(each, f"{self.quarantine}/{inside}")
                self.moved = True

    def _data_of(self, path: str) -> str | None:
        """The objects behind an alias."""
        if not is_alias(path):
            return None
        directory, name = split(path)
        workspace = RemoteWorkspace(self._remote, directory)
        try:
            return workspace.path(read_alias(workspace, name))
        except (VhdError, NotFound):
            return None
