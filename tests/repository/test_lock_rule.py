"""Which names a remote locks, and for how long."""

from __future__ import annotations

import pytest

from xobackup.repository.lock_rule import DAY_S, LockRule

RULE = LockRule(mode="governance", days=30, chain_days=7)
VM = "xo-vm-backups/aaaaaaaa-0000-4000-8000-000000000001"
LINEAGE = f"{VM}/vdis/bbbbbbbb-0000-4000-8000-000000000001/22222222-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    "name",
    [
        f"{VM}/20260106T030000Z.json",
        f"{VM}/20260106T030000Z.xva",
        f"{VM}/20260106T030000Z.xva.checksum",
        f"{LINEAGE}/20260106T030000Z.alias.vhd",
        f"{LINEAGE}/20260106T030000Z.vhd",
        f"{LINEAGE}/data/20260106T030000Z.vhd/header",
        f"{LINEAGE}/data/20260106T030000Z.vhd/blocks/0/17",
        "xo-pool-metadata-backups/s/p/20260106T030000Z/data",
        "encryption.json",
        "metadata.json",
        "encryption-keys/0123.json",
    ],
)
def test_what_a_restore_needs_is_locked_for_as_long_as_a_chain_may_need_it(name: str) -> None:
    assert RULE.seconds_of(name) == 37 * DAY_S


@pytest.mark.parametrize(
    "name",
    [
        f"{VM}/cache.json.gz",
        f"{VM}.lock",
        f"{VM}/.20260106T030000Z.xva.part",
        f"{LINEAGE}/.20260106T030000Z.alias.vhd.merge.json",
        ".xobackup/leases/x/0000000001.json",
        ".xobackup/digests/x/y/z/20260106T030000Z.xxh3",
        ".xobackup/quarantine/x/20260106T030000Z.json",
        "xo-vm-backups/20260106T030000Z.json",
        "somebody/elses",
        "",
    ],
)
def test_what_is_rewritten_or_can_be_lost_is_not_locked(name: str) -> None:
    assert RULE.seconds_of(name) == 0.0
