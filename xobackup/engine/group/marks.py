"""By what the restore points of a group are known: see :data:`xobackup.repository.metadata.GROUP`.

Written into the description of a restore point only, not on the pool.
"""

from __future__ import annotations

from collections.abc import Sequence

from xobackup.repository.metadata import GROUP, GROUP_MEMBERS


def group_marks(group_id: str, members: Sequence[str]) -> dict[str, str]:
    """The keys for the snapshot of one member."""
    return {GROUP: group_id, GROUP_MEMBERS: ",".join(sorted(members))}
