"""VMs that no job selects and that nobody left out on purpose."""

from __future__ import annotations

from xobackup.engine import keys
from xobackup.engine.job import METADATA, PoolTarget, Selector, Settings, VmRule
from xobackup.engine.unprotected import unprotected
from xotest.views import a_job, a_vm


def test_what_nobody_selects_and_nobody_left_out() -> None:
    jobs = [
        a_job(selector=Selector(include=(VmRule(tag="prod"),), exclude=(VmRule(name="test-*"),))),
        a_job(name="other", selector=Selector(include=(VmRule(name="db"),))),
        a_job(
            name="elsewhere",
            pools=(PoolTarget(name="far", address=None),),
            selector=Selector(),  # type: ignore[arg-type]
        ),
        a_job(name="database", settings=Settings(mode=METADATA)),
    ]
    vms = [
        a_vm("web", tags=("prod",)),
        a_vm("db"),
        a_vm("forgotten"),
        a_vm("a halted one", power_state="Halted"),
        a_vm("test-7", tags=("prod",)),
        a_vm("on purpose", tags=("xo:no-bak=scratch",)),
        a_vm("template", is_template=True),
        a_vm("snapshot", is_snapshot=True),
        a_vm("dom0", is_control_domain=True),
        a_vm("replica", other_config={keys.REPLICA: "1"}),
        a_vm("booted for trial", other_config={keys.HEALTH_CHECK: "1"}),
        a_vm("of another pool", pool="far"),
    ]
    assert [one["name"] for one in unprotected(jobs, vms, "lab")] == ["a halted one", "forgotten"]
    assert unprotected(jobs, vms, "far") == []
