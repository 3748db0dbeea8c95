"""Would Xen Orchestra's next run be a delta on this base? (``isMergeableParent``, with its check of the uuids.)"""

from __future__ import annotations

import posixpath
from typing import Any

from xotest.xo_rules.disks import Broken, NotSupported, Opened, open_disk
from xotest.xo_rules.trees import Tree, tree_of


def chainable(
    source: Any,
    vm: str,
    job: str,
    vdi: str,
    base_uuid: str,
    *,
    directories: bool | None = None,
    compression: str = "brotli",
    child_name: str | None = None,
) -> bool:
    """``vdi`` is the live disk, ``base_uuid`` its snapshot that is to be the base.

    ``directories``: does the remote's configuration say VHD directories (None: whatever the chain is)?
    ``child_name``: the new disk's file name, which must sort after its parent's.
    """
    tree = tree_of(source)
    place = f"xo-vm-backups/{vm}/vdis/{job}/{vdi}"
    try:
        names = [name for name in tree.list(place) if name.endswith(".vhd") and not name.startswith(".")]
    except FileNotFoundError:
        return False
    for name in sorted(names, reverse=True):
        try:
            chain = open_chain(tree, f"{place}/{name}", check_uuids=True)
        except (Broken, NotSupported):
            continue
        if chain[0].uuid == base_uuid:
            return _kind_fits(chain, directories, compression) and (child_name is None or name < child_name)
    return False


def _kind_fits(chain: list[Opened], directories: bool | None, compression: str) -> bool:
    if all(disk.is_directory for disk in chain):
        return directories is not False and {disk.compression for disk in chain} == {compression}
    return directories is not True


def open_chain(tree: Tree, path: str, *, check_uuids: bool, force: bool = False) -> list[Opened]:
    """From ``path`` up to the first dynamic disk, by the parents' names."""
    chain = [open_disk(tree, path, force=force)]
    while chain[-1].differencing:
        child = chain[-1]
        if any(child.parent_path == member.path for member in chain):
            raise Broken(f"{child.path}: a loop of parents")
        parent = open_disk(tree, child.parent_path, force=force)
        if check_uuids and parent.uuid != child.parent_uuid:
            name = posixpath.basename(parent.path)
            raise Broken(f"{child.path}: expected parent {child.parent_uuid}, {name} is {parent.uuid}")
        chain.append(parent)
    return chain
