"""The alert rules and the dashboard that are shipped: Prometheus takes them, and all their metrics are ours."""

from __future__ import annotations

import json
import re
import subprocess

from starlette.testclient import TestClient

from xobackup.engine.progress import Snapshot
from xotest.programs import need
from xotest.site import ROOT
from xotest.web import PaperHouse

RULES = ROOT / "docs" / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "grafana.json"
METER = Snapshot(
    name="disk", stage="transfer", done_bytes=1, total_bytes=2, rate_bytes_s=1.5, eta_s=1.0, bottleneck="",
    elapsed_s=1, finished=False,
)  # fmt: skip


def exposed(client: TestClient, house: PaperHouse) -> str:
    house.meters = (METER,)
    with house.store().writing() as connection:
        run = connection.exec_driver_sql("SELECT id FROM runs ORDER BY began_at DESC LIMIT 1").scalar_one()
        connection.exec_driver_sql(
            "INSERT INTO messages (run, at, level, kind, text, remote, error_class, hint) "
            f"VALUES ({run}, {house.now_s() - 60}, 'warning', 'fell-back-to-full', 'x', '', 'base-lost', '')"
        )
    return client.get("/metrics").text


def test_prometheus_takes_the_rules_and_the_metrics(client: TestClient, house: PaperHouse) -> None:
    promtool = need("promtool")
    rules = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)
    assert rules.returncode == 0, rules.stdout + rules.stderr
    text = exposed(client, house)
    metrics = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert metrics.returncode == 0, metrics.stdout + metrics.stderr


def test_rules_and_dashboard_name_only_metrics_that_there_are(client: TestClient, house: PaperHouse) -> None:
    families = set(re.findall(r"^# TYPE (\S+)", exposed(client, house), flags=re.MULTILINE))
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += re.findall(r"expr: (.+)", RULES.read_text())
    named = {name for expression in expressions for name in re.findall(r"xobackup_\w+", expression)}
    assert len(named) > 10 and named <= families, named - families
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(identities) == len(set(identities))
    documented = (ROOT / "docs" / "web.md").read_text()
    for family in families:
        shortened = (family.removeprefix("xobackup_job_last_run"), family.removeprefix("xobackup_remote"))
        assert any(f"`{name}`" in documented for name in (family, *shortened)), f"{family} is not documented"
