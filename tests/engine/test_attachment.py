"""Disks that cannot be snapshotted, and what is worth knowing of others."""

import pytest

from xobackup.engine.attachment import notes_on, snapshot_obstacle


@pytest.mark.parametrize("kind", ["udev", "rawhba", "iso"])
def test_what_is_passed_through_has_no_snapshot(kind: str) -> None:
    assert f"SR usb of type {kind}" in snapshot_obstacle({}, {"type": kind, "name_label": "usb"})


@pytest.mark.parametrize(
    ("vdi", "told"),
    [
        ({"sharable": True}, "sharable"),
        ({"on_boot": "reset"}, "reset at every start"),
        ({"on_boot": "persist", "sharable": False}, ""),
        ({}, ""),
    ],
)
def test_disks_of_which_the_pool_takes_none(vdi: dict[str, object], told: str) -> None:
    found = snapshot_obstacle(vdi, {"type": "ext"})
    assert told in found and bool(told) == bool(found)


def test_notes() -> None:
    assert notes_on({"mode": "RW"}, []) == ()
    assert notes_on({"mode": "RO"}, ["b", "a"]) == (
        "it is attached to a, b too, and backed up with each of them",
        "it is attached read-only, and backed up all the same",
    )
