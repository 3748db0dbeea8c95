"""Room on SRs and remotes: figures, floors, and what is only a bound."""

from xobackup.engine.job import Settings
from xobackup.engine.plan import plan_vm
from xobackup.engine.space.judge import Floor, SpaceCheck, remote_shortage, sr_shortages
from xobackup.engine.view import SrView
from xotest.views import a_disk, a_job, a_vm

GIB = 1 << 30


def an_sr(kind: str, *, free_gib: float, total_gib: float = 100) -> SrView:
    return SrView(
        uuid=kind, name=f"the {kind}", type=kind, total_bytes=int(total_gib * GIB),
        used_bytes=int((total_gib - free_gib) * GIB),
    )  # fmt: skip


def disks(sr: SrView, *sizes_gib: int):
    return tuple(
        a_disk(f"disk {number}", sr=sr, virtual_size_bytes=size * GIB) for number, size in enumerate(sizes_gib)
    )


def test_thick_volumes_need_the_virtual_size_of_all_disks_again() -> None:
    sr = an_sr("lvmoiscsi", free_gib=25)
    assert sr_shortages(disks(sr, 10, 14), Floor()) == ()
    (short,) = sr_shortages(disks(sr, 10, 15), Floor())
    assert short.reason.startswith("SR the lvmoiscsi has 25.0 GiB free of 100.0 GiB, a snapshot may need 25.0 GiB")
    assert sr_shortages(disks(sr, 10, 14), Floor(share=0.05)), "and the floor"


def test_files_only_have_a_floor() -> None:
    assert sr_shortages(disks(an_sr("nfs", free_gib=6), 500), Floor(share=0.05)) == ()
    (short,) = sr_shortages(disks(an_sr("nfs", free_gib=4), 1), Floor(share=0.05))
    assert short.reason == "SR the nfs has 4.0 GiB free of 100.0 GiB, less than 5.0 GiB"
    assert sr_shortages(disks(an_sr("ext", free_gib=4), 1), Floor(size_bytes=5 * GIB))


def test_an_sr_whose_size_nobody_knows_is_not_judged() -> None:
    assert sr_shortages((a_disk(), *disks(an_sr("nfs", free_gib=0, total_gib=0), 1)), Floor(share=0.5)) == ()


def test_a_plan_refuses_warns_or_says_nothing() -> None:
    vm = a_vm(disks=disks(an_sr("lvm", free_gib=3), 8))
    strict = plan_vm(a_job(settings=Settings(space_check=SpaceCheck.REFUSE)), vm, {})
    assert "less than 5.0 GiB" in strict.refusal and not strict.warnings
    lenient = plan_vm(a_job(), vm, {})
    assert not lenient.refusal and "less than 5.0 GiB" in lenient.warnings[0]
    silent = plan_vm(a_job(settings=Settings(space_check=SpaceCheck.OFF)), vm, {})
    assert not silent.refusal and not silent.warnings


def test_a_remote_with_too_little_room_for_a_delta_is_refusable_for_a_full_only_worth_a_warning() -> None:
    def judge(free: int | None, wanted: int, *, bound: bool, floor: Floor = Floor()):  # noqa: B008
        return remote_shortage(
            "nas", free_bytes=free, total_bytes=100 * GIB, wanted_bytes=wanted, bound=bound, floor=floor
        )

    assert judge(None, 10**18, bound=False) is None
    assert judge(10 * GIB, 10 * GIB, bound=False) is None
    delta = judge(10 * GIB, 11 * GIB, bound=False)
    assert delta and delta.refusable and "about 11.0 GiB are to come" in delta.reason
    full = judge(10 * GIB, 11 * GIB, bound=True)
    assert full and not full.refusable and "up to 11.0 GiB" in full.reason
    low = judge(4 * GIB, 0, bound=True, floor=Floor(share=0.05))
    assert low and low.refusable and "less than 5.0 GiB" in low.reason
