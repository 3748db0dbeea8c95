"""One lineage: the disks of one ``vdis/<job>/<vdi>`` directory, their links by name, interrupted merges."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field

from xotest.xo_rules.disks import Broken, Opened, is_alias, open_disk, resolve_alias
from xotest.xo_rules.trees import Tree

STATE = re.compile(r"^\.(.+)\.merge\.json$")


@dataclass(kw_only=True)
class Lineage:
    """What Xen Orchestra knows of the directory after looking at every disk in it."""

    directory: str
    disks: list[str] = field(default_factory=list)
    opened: dict[str, Opened] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    unopened: set[str] = field(default_factory=set)
    """The broken ones that are so by themselves, not for a parent's sake."""
    parent_of: dict[str, str] = field(default_factory=dict)
    child_of: dict[str, str] = field(default_factory=dict)
    forks: list[tuple[str, str]] = field(default_factory=list)
    """(parent, second child)."""
    states: dict[str, tuple[str, dict[str, object] | None]] = field(default_factory=dict)
    """Root of an interrupted merge -> (state file, its JSON or None when unreadable)."""
    warnings: list[str] = field(default_factory=list)

    def accessible(self, path: str) -> bool:
        return path in self.opened and path not in self.broken

    def state_chain(self, root: str) -> list[str]:
        """The disks a merge state names, whether they still exist or not; ``[]`` when it cannot be read."""
        path, state = self.states[root]
        if state is None:
            return []
        here = posixpath.dirname(path)
        chain = state.get("chain")
        if isinstance(chain, list):
            return [posixpath.normpath(posixpath.join(here, str(name))) for name in chain]
        child = state.get("child")
        wanted = child.get("uuid") if isinstance(child, dict) else None
        by_uuid = {disk.uuid: name for name, disk in self.opened.items()}
        found = by_uuid.get(str(wanted)) if wanted else self.child_of.get(root)
        return [root, found] if found else []


def look(tree: Tree, directory: str) -> Lineage:
    """Open every disk of ``directory`` and link them by name."""
    lineage = Lineage(directory=directory)
    names = tree.list(directory)
    lineage.disks = [f"{directory}/{name}" for name in names if name.endswith(".vhd")]
    for name in names:
        if match := STATE.match(name):
            path = f"{directory}/{name}"
            lineage.states[f"{directory}/{match[1]}"] = (path, _state(tree, path, lineage))
    forced = {path for root in lineage.states for path in [root, *lineage.state_chain(root)]}
    for path in lineage.disks:
        try:
            lineage.opened[path] = open_disk(tree, path, force=path in forced)
        except Broken as error:
            lineage.broken[path] = str(error)
            lineage.unopened.add(path)
    _link(lineage)
    _spread(lineage)
    return lineage


def _state(tree: Tree, path: str, lineage: Lineage) -> dict[str, object] | None:
    try:
        state = json.loads(tree.read(path))
    except ValueError:
        state = None
    if not isinstance(state, dict):
        lineage.warnings.append(f"{path}: merge state unreadable")
        return None
    return state


def _link(lineage: Lineage) -> None:
    by_uuid: dict[str, str] = {}
    for path, disk in lineage.opened.items():
        other = by_uuid.get(disk.uuid)
        if other is not None:
            lineage.warnings.append(f"{path}: same uuid {disk.uuid} as {other}")
            if not set(disk.sectors) > set(lineage.opened[other].sectors):
                continue  # the first stays known; this one's link to its parent is forgotten
        by_uuid[disk.uuid] = path
        if not disk.differencing:
            continue
        parent = disk.parent_path
        lineage.parent_of[path] = parent
        if parent in lineage.child_of:
            lineage.forks.append((parent, path))
            lineage.warnings.append(f"{path}: failed to read disk parent info (second child of {parent})")
        else:
            lineage.child_of[parent] = path


def _spread(lineage: Lineage) -> None:
    """A missing or broken parent breaks the child, and so on down."""
    changed = True
    while changed:
        changed = False
        for child, parent in lineage.parent_of.items():
            if child not in lineage.broken and not lineage.accessible(parent):
                why = "broken" if parent in lineage.opened or parent in lineage.broken else "missing"
                lineage.broken[child] = f"its parent {posixpath.basename(parent)} is {why}"
                changed = True


def data_litter(tree: Tree, lineage: Lineage) -> list[str]:
    """Entries of the data directories that no alias claims."""
    claimed = set()
    for path in lineage.disks:
        if is_alias(path):
            try:
                claimed.add(resolve_alias(tree, path))
            except Broken:
                continue
    directories = {posixpath.dirname(path) for path in claimed} - {lineage.directory}
    found = []
    for directory in sorted(directories):
        try:
            names = tree.list(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [f"{directory}/{name}" for name in names if f"{directory}/{name}" not in claimed]
    return found
