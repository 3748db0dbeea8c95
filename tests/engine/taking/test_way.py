"""In which way a VM is taken, decided from job, tags and power state."""

import pytest

from xobackup.engine.errors import UsageError
from xobackup.engine.job import FULL, Settings
from xobackup.engine.taking.way import MEMORY_TAG, OFFLINE_TAG, Method, plan_taking
from xotest.views import a_job, a_vm


def way(snapshot: str = "disk", *, left_out: tuple[str, ...] = (), mode: str = "delta", offline: bool = False, **vm):
    settings = Settings(snapshot=snapshot, mode=mode, offline_backup=offline)
    return plan_taking(a_job(settings=settings), a_vm(**vm), left_out)


@pytest.mark.parametrize(
    ("snapshot", "state", "method", "shuts_down"),
    [
        ("disk", "Running", Method.DISK, False),
        ("disk", "Halted", Method.DISK, False),
        ("disk", "Paused", Method.DISK, False),
        ("disk", "Suspended", Method.MEMORY, False),
        ("memory", "Running", Method.MEMORY, False),
        ("memory", "Paused", Method.MEMORY, False),
        ("memory", "Suspended", Method.MEMORY, False),
        ("memory", "Halted", Method.DISK, False),
        ("offline", "Running", Method.OFFLINE, True),
        ("offline", "Halted", Method.OFFLINE, False),
        ("offline", "Paused", Method.DISK, False),
        ("offline", "Suspended", Method.MEMORY, False),
    ],
)
def test_the_jobs_setting_and_the_power_state_decide(
    snapshot: str, state: str, method: Method, shuts_down: bool
) -> None:
    made = way(snapshot, power_state=state)
    assert (made.method, made.shuts_down) == (method, shuts_down)
    assert made.reason or (snapshot == "disk" and method is Method.DISK), "what is unusual has a reason"


def test_only_vms_that_run_are_ever_shut_down() -> None:
    for snapshot in ("disk", "memory", "offline"):
        for state in ("Halted", "Paused", "Suspended"):
            assert not way(snapshot, power_state=state, tags=(OFFLINE_TAG,)).shuts_down


@pytest.mark.parametrize("snapshot", ["disk", "memory", "offline"])
def test_a_tag_on_the_vm_wins_over_the_job(snapshot: str) -> None:
    assert way(snapshot, tags=(OFFLINE_TAG,)).method is Method.OFFLINE
    assert way("disk", tags=(MEMORY_TAG,)).method is Method.MEMORY
    assert way(snapshot, tags=(OFFLINE_TAG, MEMORY_TAG)).method is Method.OFFLINE
    assert OFFLINE_TAG in way(snapshot, tags=(OFFLINE_TAG,)).reason


def test_an_offline_backup_exports_the_vm_itself() -> None:
    for state, shuts_down in (("Running", True), ("Halted", False), ("Suspended", False)):
        made = way(mode=FULL, offline=True, power_state=state)
        assert (made.method, made.shuts_down) == (Method.WITHOUT, shuts_down)
    assert way(mode=FULL, offline=True, power_state="Paused").warning


def test_disks_that_are_left_out_need_a_snapshot_all_the_same() -> None:
    made = way(mode=FULL, offline=True, left_out=("swap [NOBAK]",))
    assert made.method is Method.OFFLINE and made.shuts_down and "[NOBAK]" in made.reason
    suspended = way(mode=FULL, offline=True, left_out=("swap",), power_state="Suspended")
    assert suspended.method is Method.MEMORY and "may not resume" in suspended.warning


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"snapshot": "quiesced"}, "snapshot must be one of disk, memory, offline"),
        ({"offline_backup": True}, 'only for mode = "full"'),
        ({"offline_backup": True, "mode": FULL, "snapshot": "memory"}, "takes no snapshot"),
        ({"shutdown_wait_s": 0}, "shutdown_wait_s must be more than 0"),
    ],
)
def test_what_cannot_go_together_is_refused(settings: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        a_job(settings=Settings(**settings))
