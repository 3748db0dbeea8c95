import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.repository import layout
from xobackup.repository.errors import BadName

VM = "aaaaaaaa-0000-4000-8000-000000000001"
JOB = "bbbbbbbb-0000-4000-8000-000000000001"
VDI = "11111111-0000-4000-8000-000000000001"


def test_a_point_is_named_by_the_second_of_its_milliseconds():
    assert layout.timestamp_name(1767668400000) == "20260106T030000Z"
    assert layout.timestamp_name(1767668400999) == "20260106T030000Z"
    assert layout.timestamp_of("20260106T030000Z") == 1767668400000


@given(st.integers(min_value=0, max_value=253_402_300_798_999))
def test_names_and_times_agree_and_sort_alike(timestamp_ms):
    name = layout.timestamp_name(timestamp_ms)
    assert layout.timestamp_of(name) == timestamp_ms // 1000 * 1000
    assert layout.timestamp_name(timestamp_ms + 1000) > name


@pytest.mark.parametrize(
    "text", ["", "20260106T030000", "20261306T030000Z", "20260106T030000Z ", "２0260106T030000Z", "x"]
)
def test_what_is_no_time_is_no_point(text):
    assert layout.timestamp_of(text) is None
    with pytest.raises(BadName):
        layout.point_id(text)


def test_a_point_may_be_given_as_xen_orchestra_gives_it():
    assert layout.point_id(f"/xo-vm-backups/{VM}/20260106T030000Z.json") == "20260106T030000Z"


@pytest.mark.parametrize("timestamp", [-(10**20), 10**20, 1e300, float("nan")])
def test_an_impossible_time_is_a_bad_name(timestamp):
    with pytest.raises(BadName):
        layout.timestamp_name(timestamp)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        f"vdis/{JOB}/{VDI}/../../../x.vhd",
        f"vdis/{JOB}/../x.vhd",
        f"vdis/{JOB}/{VDI}/.hidden.vhd",
        f"vdis/{JOB}/{VDI}/data/x.vhd",
        f"../{VM}/vdis/{JOB}/{VDI}/20260101T000000Z.vhd",
        f"vdis//{VDI}/x.vhd",
        f"vdis/{JOB}/{VDI}/x.raw",
        f"vdis\\{JOB}\\{VDI}\\x.vhd",
        f"vdis/{JOB}/{VDI}/x\0.vhd",
        f"vdis/{JOB}/{VDI}/{'x' * 300}.vhd",
        None,
        17,
        ["vdis"],
    ],
)
def test_a_disk_path_that_leaves_the_vm_is_refused(path):
    with pytest.raises(BadName):
        layout.checked_disk_path(path)


def test_a_disk_path_may_start_with_a_dot_slash():
    path = f"vdis/{JOB}/{VDI}/20260101T000000Z.alias.vhd"
    assert layout.checked_disk_path("./" + path) == layout.checked_disk_path(path) == path


@given(st.text())
def test_an_accepted_part_is_one_plain_name(text):
    if layout.is_part(text):
        assert "/" not in text and "\\" not in text and not text.startswith(".") and text.isascii()


def test_only_rfc_4122_uuids_go_into_disks():
    assert layout.checked_disk_uuid("disk", VDI) == VDI
    for bad in (
        "11111111-0000-0000-8000-000000000001",
        "11111111-0000-4000-0000-000000000001",
        "x",
        VDI.upper() + "G",
    ):
        with pytest.raises(BadName):
            layout.checked_disk_uuid("disk", bad)


def test_every_private_path_is_below_the_private_directory():
    lineage = layout.lineage_path(JOB, VDI)
    assert layout.digest_name(VM, lineage, "20260101T000000Z.alias.vhd") == (
        f".xobackup/digests/{VM}/{JOB}/{VDI}/20260101T000000Z.xxh3"
    )
    assert layout.holder_name(VM).startswith(".xobackup/")
    assert layout.quarantine_directory(VM, "x").startswith(".xobackup/")


def test_a_part_is_nothing_xen_orchestra_looks_at():
    part = layout.part_name("20260101T000000Z.vhd")
    assert part.startswith(".") and not part.endswith(".vhd")
    assert layout.data_name("20260101T000000Z.alias.vhd") == "data/20260101T000000Z.vhd"
    assert layout.state_name("20260101T000000Z.alias.vhd") == ".20260101T000000Z.alias.vhd.merge.json"
    assert layout.point_of_disk("20260101T000000Z.alias.vhd") == "20260101T000000Z"
    assert layout.point_of_disk("other.vhd") is None
