"""Xen Orchestra's rules, readable and executable, written apart from every reader of this project.

Nothing here imports ``vhd``, ``remotes`` or ``xobackup``: it is the second opinion on what they write.

- :func:`judge`: what would Xen Orchestra's ``cleanVm`` (merge and remove) delete, merge, call broken?
- :func:`assert_nothing`: it would touch nothing; what every step of every sweep ends with.
- :func:`checklist` / :func:`assert_conformant`: what a writer owes Xen Orchestra beyond that.
- :func:`chainable`: would its next run be a delta on this base?
- :func:`assert_pools_conformant`: are the backups of pools what it would list?
- :func:`disk_sha256`: a naive restore by name through the chain, to compare with ours.
- :func:`vhd_util_check` / :func:`vhd_util_check_chain`: the complaints of Xen's ``vhd-util check``.

Every function takes a directory, a mapping of names to bytes, or an open remote as its tree. Only headers, tables and
sizes are read (``disk_sha256`` excepted), so that a sweep can afford to ask after every step.
"""

from xotest.xo_rules.chaining import chainable
from xotest.xo_rules.checklist import assert_conformant, checklist
from xotest.xo_rules.cleaning import Deletion, Merge, Verdict, assert_nothing, judge
from xotest.xo_rules.disks import Broken, Opened, open_disk
from xotest.xo_rules.pools import assert_pools_conformant, pool_points
from xotest.xo_rules.restoring import disk_sha256, points, read_disk
from xotest.xo_rules.trees import DecryptedTree, DirectoryTree, MappingTree, Tree, tree_of
from xotest.xo_rules.vhd_util import vhd_util_check, vhd_util_check_chain

__all__ = [
    "Broken",
    "DecryptedTree",
    "Deletion",
    "DirectoryTree",
    "MappingTree",
    "Merge",
    "Opened",
    "Tree",
    "Verdict",
    "assert_conformant",
    "assert_nothing",
    "assert_pools_conformant",
    "chainable",
    "checklist",
    "disk_sha256",
    "judge",
    "open_disk",
    "points",
    "pool_points",
    "read_disk",
    "tree_of",
    "vhd_util_check",
    "vhd_util_check_chain",
]
