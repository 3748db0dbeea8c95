"""Which VMs a job checks, and why it leaves others out."""

from xobackup.engine.health.of_job import Eligible, JobChecks, chosen
from xobackup.engine.health.request import CheckRequest
from xobackup.engine.job import PoolTarget, RemoteTarget
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.tls import SystemCa

DAY = 86_400.0
NOW = 100 * DAY


def checks(**more: object) -> JobChecks:
    address = PoolAddress(url="https://h", username="root", password="x", tls=SystemCa())
    return JobChecks(
        pool=PoolTarget(name="p", address=address),
        remote=RemoteTarget(name="r", url="file:///r"),
        request=CheckRequest(sr="sr"),
        **more,  # type: ignore[arg-type]
    )


def vm(name: str, *tags: str) -> Eligible:
    return Eligible(uuid=name, name=name, tags=list(tags))


def test_all_of_them_without_a_rule() -> None:
    assert chosen(checks(), [vm("a"), vm("b")], {}, now_s=NOW) == (["a", "b"], {})


def test_tags_choose_and_opt_out() -> None:
    vms = [
        vm("a", "gold"),
        vm("b", "silver"),
        vm("c", "gold", "xo:no-health-check=too big"),
        Eligible(uuid="d", name="d", tags=None),
    ]
    found, reasons = chosen(checks(tags=("gold",)), vms, {}, now_s=NOW)
    assert found == ["a"]
    assert reasons == {
        "b": "it has no tag gold", "c": "it has the tag xo:no-health-check", "d": "it has no tag gold",
    }  # fmt: skip


def test_a_sample_takes_those_not_checked_for_longest() -> None:
    checked = {"a": NOW - DAY, "b": NOW - 9 * DAY, "c": NOW - 30 * DAY}
    vms = [vm(name) for name in "abcd"]
    found, reasons = chosen(checks(every_s=7 * DAY, vms_max=2), vms, checked, now_s=NOW)
    assert found == ["d", "c"]
    assert reasons == {"a": "it was checked 1.0 days ago", "b": "2 others were checked longer ago"}
