"""The API: its answers, its errors, its own description, and whatever anybody sends it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from xotest.journals import DATABASE, WEB
from xotest.web import PaperHouse


def test_status_and_vms(client: TestClient) -> None:
    status = client.get("/api/v1/status").json()
    assert (status["headline"], status["good"], status["vms"], status["within"]) == (
        "1 of 2 VMs within their RPO", False, 2, 1,
    )  # fmt: skip
    vms = client.get("/api/v1/vms").json()
    assert [(vm["name"], vm["state"]) for vm in vms["vms"]] == [("database", "late"), ("web", "good")]
    assert client.get("/api/v1/vms?state=late").json()["total"] == 1
    assert client.get("/api/v1/vms?limit=1&offset=1").json()["vms"][0]["name"] == "web"


def test_runs_and_one_in_depth(client: TestClient) -> None:
    runs = client.get("/api/v1/runs?limit=2").json()["runs"]
    assert [run["run_id"] for run in runs] == ["run-2", "run-1"]
    older = client.get("/api/v1/runs", params={"before": runs[-1]["began_at"]}).json()["runs"]
    assert [run["run_id"] for run in older] == ["run-0"]
    run = client.get("/api/v1/runs/run-2").json()
    assert {one["name"]: one["outcome"] for one in run["subjects"]} == {"web": "ok", "database": "failed"}
    rows = client.get(f"/api/v1/vms/{DATABASE}/runs").json()["runs"]
    assert [row["outcome"] for row in rows] == ["failed", "ok", "ok"]
    assert client.get("/api/v1/vms/nobody/runs").status_code == 404


def test_the_rest(client: TestClient, house: PaperHouse) -> None:
    assert client.get("/api/v1/jobs").json()["jobs"][0]["name"] == "nightly"
    assert client.get("/api/v1/schedules").json()["schedules"][0]["next_at"].endswith("+00:00")
    assert client.get("/api/v1/calendar?days=2").json()["starts"][0]["schedule"] == "night"
    assert [one["problem"] for one in client.get("/api/v1/remotes").json()["remotes"]][1] == "it does not answer"
    assert client.get("/api/v1/problems").json()["messages"][0]["hint"] == "make room"
    assert client.get("/api/v1/live").json()["runs"] == []
    house.parts = {"history": "it is gone"}
    answer = client.get("/readyz")
    assert answer.status_code == 503 and answer.json()["parts"] == {"history": "it is gone"}
    assert client.get("/healthz").status_code == 200, "it lives, though not all is well"


def test_errors_are_problem_details(client: TestClient) -> None:
    for path, code in (("/api/v1/none", 404), ("/api/v1/runs/none", 404), ("/api/v1/runs?limit=0", 422)):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == code == answer.status_code and problem["title"] and problem["detail"]
    assert client.delete("/api/v1/runs").status_code == 405
    assert client.post("/login", content=b"x" * 70_000).status_code == 413


def test_the_description_names_every_path(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert {"/api/v1/status", "/api/v1/runs/{run_id}", "/api/v1/schedules/{name}/run", "/metrics"} <= set(
        described["paths"]
    )
    told = set(re.findall(r"`(GET|POST) ([^`]+)`", DOCS.read_text().split("## The API")[1]))
    there = {
        (deed.upper(), re.sub(r"^commands/.+", "commands/{command}", path.removeprefix("/api/v1/")))
        for path, deeds in described["paths"].items()
        for deed in deeds
        if path.startswith("/api/v1/")
    }
    assert there == told, "docs/web.md and the description differ"
    for path, deeds in described["paths"].items():
        for deed in deeds.values():
            assert deed["description"] if path.startswith("/api") else True, path


DOCS = Path(__file__).resolve().parents[2] / "docs" / "web.md"
ANYTHING = (
    st.text(max_size=60) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["", "-1", "1e400", "\0"])
)


PATHS = ["/", "/runs", "/problems", f"/vms/{WEB}", f"/vms/{WEB}/points", "/backups", "/restore", "/runs/x", "/login"]
QUERIES = st.dictionaries(
    st.sampled_from(
        ["q", "state", "page", "job", "outcome", "before", "days", "next", "remote", "vm", "point", "again"]
    ),
    ANYTHING,
    max_size=4,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), values=QUERIES)
def test_pages_take_any_query(client: TestClient, path: str, values: dict[str, str]) -> None:
    assert client.get(path, params=values).status_code < 500


@pytest.mark.parametrize(
    "path", ["/%00", "/runs/%00", "/vms/..%2f..%2fetc", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_nasty_paths(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 200) and "def make_app" not in client.get(path).text
