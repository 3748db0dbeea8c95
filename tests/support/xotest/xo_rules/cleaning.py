"""What would ``cleanVm`` (merge and remove) of Xen Orchestra do to a repository? Nothing is touched here.

A :class:`Deletion` marked ``litter`` takes nothing that a restore point needs: a disk no point ever named (what an
interrupted backup leaves), an unclaimed data directory, the state file of a merge that is through. Everything else in
``Verdict.deletes`` is a loss.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xotest.xo_rules.disks import NotSupported, is_alias
from xotest.xo_rules.lineages import Lineage, data_litter, look
from xotest.xo_rules.trees import Tree, tree_of

ROOT = "xo-vm-backups"


class Deletion(NamedTuple):
    path: str
    reason: str
    litter: bool = False


class Merge(NamedTuple):
    chain: tuple[str, ...]
    """Root first; the last is the disk that stays."""
    resuming: bool


@dataclass(kw_only=True)
class Verdict:
    deletes: list[Deletion] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason): disks that do not open, and what a merge or a listing would get wrong."""
    warnings: list[str] = field(default_factory=list)
    cache_rewrite: bool = False
    """It would regenerate ``cache.json.gz`` (missing, or a wrong number of entries): harmless."""
    aborts: str | None = None

    @property
    def losses(self) -> list[Deletion]:
        return [deletion for deletion in self.deletes if not deletion.litter]

    @property
    def litter(self) -> list[Deletion]:
        return [deletion for deletion in self.deletes if deletion.litter]

    def __str__(self) -> str:
        lines = [f"delete {d.path}: {d.reason}{' (litter)' if d.litter else ''}" for d in self.deletes]
        lines += [f"merge {' <- '.join(m.chain)}{' (resuming)' if m.resuming else ''}" for m in self.merges]
        lines += [f"broken {path}: {reason}" for path, reason in self.broken]
        lines += [f"warning {text}" for text in self.warnings]
        return "\n".join([*lines, *([f"aborts: {self.aborts}"] if self.aborts else [])]) or "nothing"


def assert_nothing(source: Any, *, allow_merges: bool = False, allow_litter: bool = False) -> Verdict:
    """Xen Orchestra would delete and break nothing; merge (or resume) only with ``allow_merges``."""
    verdict = judge(source)
    bad = bool(verdict.losses or verdict.broken or verdict.aborts)
    bad |= bool(verdict.litter) and not allow_litter
    bad |= bool(verdict.merges) and not allow_merges
    assert not bad, f"Xen Orchestra would act:\n{verdict}"
    return verdict


def judge(source: Any, vm: str | None = None) -> Verdict:
    """The verdict on one VM, or on everything in the repository."""
    tree = tree_of(source)
    verdict = Verdict()
    try:
        names = tree.list(ROOT)
    except FileNotFoundError:
        return verdict
    for name, is_directory in names.items():
        if name.startswith(".") or name.endswith(".lock") or vm not in (None, name):
            continue
        if not is_directory:
            verdict.broken.append((f"{ROOT}/{name}", "taken for a VM: listings fail with ENOTDIR"))
            continue
        try:
            _Cleaner(tree, f"{ROOT}/{name}", verdict).run()
        except NotSupported as error:
            verdict.aborts = str(error)
    return verdict


@dataclass
class _Cleaner:
    tree: Tree
    root: str
    verdict: Verdict
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    lineages: dict[str, Lineage] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Disks that any parsable point names, complete or not."""

    def run(self) -> None:
        names = self.tree.list(self.root)
        for name in names:
            if name.endswith(".json"):
                self._load(f"{self.root}/{name}")
        self._open_lineages()
        claimed, active = self._check_points(names)
        for lineage in self.lineages.values():
            self._clean(lineage, active)
        self._root_orphans(names, claimed)
        self._unreferenced()
        self._cache(names)

    # loading

    def _load(self, path: str) -> None:
        try:
            point = json.loads(self.tree.read(path))
        except ValueError:
            self.verdict.warnings.append(f"{path}: no JSON")
            return
        if isinstance(point, dict) and point.get("mode") in ("full", "delta"):
            self.points[path] = point
        else:
            self.verdict.warnings.append(f"{path}: unknown mode")

    def _disks(self, point: dict[str, Any]) -> list[str]:
        return [posixpath.normpath(f"{self.root}/{name}") for name in (point.get("vhds") or {}).values()]

    def _open_lineages(self) -> None:
        for path, point in self.points.items():
            for disk in self._disks(point) if point["mode"] == "delta" else []:
                self.named.add(disk)
                directory = posixpath.dirname(disk)
                if directory in self.lineages:
                    continue
                try:
                    self.lineages[directory] = look(self.tree, directory)
                except FileNotFoundError:
                    self.lineages[directory] = Lineage(directory=directory)
                    self.verdict.warnings.append(f"{path}: no directory {directory}")
        for lineage in self.lineages.values():
            self.verdict.broken += lineage.broken.items()
            self.verdict.warnings += lineage.warnings

    # points

    def _check_points(self, names: dict[str, bool]) -> tuple[set[str], set[str]]:
        """(claimed root files, active disks)"""
        claimed: set[str] = set()
        active: set[str] = set()
        for path, point in self.points.items():
            if point["mode"] == "full":
                claimed |= self._check_full(path, point, names)
                continue
            disks = self._disks(point)
            bad = [disk for disk in disks if not self.lineages[posixpath.dirname(disk)].accessible(disk)]
            if bad:
                self._delete(path, f"incomplete: {', '.join(map(posixpath.basename, bad))} missing or broken")
            else:
                claimed.add(posixpath.basename(path))
                active |= set(disks)
        return claimed, active

    def _check_full(self, path: str, point: dict[str, Any], names: dict[str, bool]) -> set[str]:
        xva = posixpath.basename(str(point.get("xva")))
        sums = f"{xva}.checksum"
        claimed = {posixpath.basename(path), xva, sums}
        if xva not in names:
            self._delete(path, f"full backup without {xva}")
            if sums in names:
                self._delete(f"{self.root}/{sums}", "checksum of a missing XVA")
            return claimed
        full = f"{self.root}/{xva}"
        size = self.tree.size(full)
        head = self.tree.read(full, 0, 4)
        packed = head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
        plain = size > 1024 and size % 512 == 0 and not any(self.tree.read(full, size - 1024, 1024))
        if size < 20 or not (packed or plain) or size != point.get("size"):
            self.verdict.warnings.append(f"{full}: no valid XVA")
        return claimed

    # disks

    def _clean(self, lineage: Lineage, active: set[str]) -> None:
        visited = self._interrupted(lineage)
        doomed: list[str] = []
        idle = [path for path in lineage.disks if path not in active]

        def chain_from(path: str) -> list[str] | None:
            if path in visited:
                return None
            visited.add(path)
            if path in active:
                return [path]
            child = lineage.child_of.get(path)
            below = chain_from(child) if child is not None and child in lineage.disks else None
            if below is None:
                doomed.append(path)
                return None
            return [path, *below]

        for path in idle:
            if path not in visited and lineage.parent_of.get(path) not in idle:
                chain = chain_from(path)
                if chain is not None and len(chain) > 1:
                    self.verdict.merges.append(Merge(tuple(chain), resuming=False))
        self._forks(lineage)
        for path in doomed:
            reason = lineage.broken.get(path, "no complete restore point needs it")
            self._delete(path, reason, litter=path not in self.named)
        for path in sorted(filter(is_alias, lineage.unopened - set(doomed))):
            self._delete(path, "missing or broken alias target", litter=path not in self.named)
        for path in data_litter(self.tree, lineage):
            self._delete(path, "data that no alias names", litter=True)

    def _interrupted(self, lineage: Lineage) -> set[str]:
        """Interrupted merges come first; their disks are safe from deletion."""
        visited: set[str] = set()
        for root, (state_path, state) in lineage.states.items():
            if root not in lineage.disks:
                self._delete(state_path, "state of a merge whose root is gone", litter=True)
                continue
            chain = [path for path in lineage.state_chain(root) if path in lineage.disks]
            if state is None or len(chain) < 2:
                self.verdict.warnings.append(f"{state_path}: nothing to resume")
                continue
            visited |= set(chain)
            self.verdict.merges.append(Merge(tuple(chain), resuming=True))
            self._resumable(lineage, chain, state, state_path)
        return visited

    def _resumable(self, lineage: Lineage, chain: list[str], state: dict[str, Any], path: str) -> None:
        """Would the resumed merge give the right disk? Blocks before ``currentBlock`` must be in the root already."""
        if any(not lineage.accessible(member) for member in chain):
            return  # reported as broken
        if state.get("step") not in ("mergeBlocks", "cleanup"):
            self.verdict.broken.append((path, f"unknown step {state.get('step')!r}"))
            return
        root = lineage.opened[chain[0]]
        moved = {index for member in chain[1:] for index in lineage.opened[member].sectors}
        if state["step"] == "mergeBlocks":
            moved = {index for index in moved if index < (state.get("currentBlock") or 0)}
        have = set(root.sectors) if not root.is_directory else _block_files(self.tree, root.data_path)
        if missing := sorted(moved - have):
            self.verdict.broken.append((path, f"says blocks {missing[:5]} are in the root, which has not got them"))

    def _forks(self, lineage: Lineage) -> None:
        merged = {path for merge in self.verdict.merges for path in merge.chain}
        for parent, child in lineage.forks:
            if parent in merged:
                self.verdict.broken.append((child, f"will lose its parent when {parent} is merged"))

    # the rest

    def _root_orphans(self, names: dict[str, bool], claimed: set[str]) -> None:
        gone = {deletion.path for deletion in self.verdict.deletes}
        for name, is_directory in names.items():
            path = f"{self.root}/{name}"
            if name in claimed or name.endswith(("cache.json.gz", "vdis")) or path in gone:
                continue
            if is_directory:
                self.verdict.warnings.append(f"{path}: unknown directory")
            else:
                self._delete(path, "unknown file", litter=not name.endswith((".json", ".xva")))

    def _unreferenced(self) -> None:
        """Disk directories that no point names: logged, never deleted."""
        vdis = f"{self.root}/vdis"
        if not self.tree.is_directory(vdis):
            return
        for job, is_directory in self.tree.list(vdis).items():
            for vdi in self.tree.list(f"{vdis}/{job}") if is_directory else []:
                if f"{vdis}/{job}/{vdi}" not in self.lineages:
                    self.verdict.warnings.append(f"{vdis}/{job}/{vdi}: named by no restore point")

    def _cache(self, names: dict[str, bool]) -> None:
        deleted = any(d.path in self.points for d in self.verdict.deletes)
        cache = self._read_cache() if "cache.json.gz" in names else None
        if cache is None or len(cache) != len(self.points) or deleted or self.verdict.merges:
            self.verdict.cache_rewrite = cache is not None or bool(self.points)
            return
        for path, point in self.points.items():
            entry = cache.get(f"/{path}")
            if entry is None:
                self.verdict.broken.append((f"{self.root}/cache.json.gz", f"stale, yet trusted: no entry for {path}"))
            elif {k: v for k, v in entry.items() if k not in ("_filename", "id", "isImmutable")} != point:
                self.verdict.broken.append((f"{self.root}/cache.json.gz", f"stale, yet trusted: wrong {path}"))

    def _read_cache(self) -> dict[str, Any] | None:
        try:
            cache = json.loads(gzip.decompress(self.tree.read(f"{self.root}/cache.json.gz")))
        except (ValueError, OSError, EOFError, zlib.error):
            return None
        return cache if isinstance(cache, dict) else None

    def _delete(self, path: str, reason: str, *, litter: bool = False) -> None:
        self.verdict.deletes.append(Deletion(path, reason, litter))


def _block_files(tree: Tree, data_path: str) -> set[int]:
    """Indexes of the block objects that exist, whatever the table says."""
    found: set[int] = set()
    if not tree.is_directory(f"{data_path}/blocks"):
        return found
    for high, is_directory in tree.list(f"{data_path}/blocks").items():
        if is_directory:
            names = tree.list(f"{data_path}/blocks/{high}")
            found |= {int(high) * 1000 + int(low) for low in names if low.isdigit()}
    return found
