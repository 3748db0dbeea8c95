"""Workers on the page, in the API, in the metrics."""

from __future__ import annotations

import re
from html import unescape

from starlette.testclient import TestClient

from xobackup.clock import FakeClock
from xobackup.web.views import Looked
from xobackup.web.worker_views import WorkersView
from xotest.paper import paper_workers
from xotest.web import PaperHouse


def text_of(client: TestClient) -> str:
    answer = client.get("/workers")
    assert answer.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def test_who_lives_what_each_does_and_what_waits_why(client: TestClient) -> None:
    text = text_of(client)
    assert "2 of 3 workers live" in text
    assert (
        "Control nodes" in text
        and "its clock is 1 min 10 s ahead" in text
        and "leads others there at 10.0.0.1:8483" in text
    )
    for told in (
        "paris web 7 1.0 ready up 24 h",
        "1/4 web job nightly, for 1 min 30 s",
        "0.9 older draining",
        "its clock is 1 min 01 s behind",
        "lost",
        "site oslo 12 15 min 00 s no worker of site oslo lives web, ...",
        "no site 1",
        "link paris-lyon 45.8 MiB/s 47.7 MiB/s 3",
        "link paris-lyon transfers 2 2",
    ):
        assert told in text, (told, text)


def test_hostile_names_are_only_text(client: TestClient, house: PaperHouse) -> None:
    house.backups.name = '"><script>alert(1)</script>\x1b[31m\n{{7*7}}' + "x" * 4096
    html = client.get("/workers").text
    assert "<script>alert" not in html and "\x1b" not in html and "{{7*7}}" in html and "x" * 400 not in html
    for line in client.get("/metrics").text.splitlines():
        assert len(line) < 1200
    assert client.get("/api/v1/workers").json()["workers"][0]["host"] == house.backups.name


def test_without_an_engine_it_is_said_and_there_are_no_metrics(client: TestClient, house: PaperHouse) -> None:
    house.engine = WorkersView()
    assert "no [engine] database" in text_of(client)
    assert client.get("/api/v1/workers").json()["there"] is False
    metrics = client.get("/metrics").text
    assert "xobackup_workers_alive" not in metrics and "xobackup_engine_database_up" not in metrics


def test_a_database_that_is_away_is_said_with_what_was_seen_last(client: TestClient, house: PaperHouse) -> None:
    seen = paper_workers(house.now_s(), "web")
    away = Looked(at=house.now_s() - 300, problem="connection refused")
    house.engine = WorkersView(there=True, looked=away, workers=seen.workers)
    assert "connection refused As it was 5 min 00 s ago" in text_of(client) and "2 of 3" in text_of(client)
    assert house.engine.problem == "the engine's database: connection refused"
    assert "xobackup_engine_database_up 0" in client.get("/metrics").text
    house.engine = WorkersView(there=True, looked=Looked(problem="connection refused"))
    assert "connection refused" in text_of(client) and "Nothing waits" not in text_of(client)
    metrics = client.get("/metrics").text
    assert "xobackup_engine_database_up 0" in metrics and "xobackup_workers_alive" not in metrics


def test_metrics_by_site(client: TestClient, clock: FakeClock) -> None:
    values = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert (
        values['xobackup_workers_alive{site="paris"}'] == "1" and values['xobackup_workers_alive{site="oslo"}'] == "0"
    )
    assert values['xobackup_workers_alive{site="*"}'] == "2"
    assert values['xobackup_worker_tasks_doing{site="paris"}'] == "1"
    assert values['xobackup_worker_tasks_waiting{site="oslo"}'] == "12"
    assert values['xobackup_worker_oldest_waiting_seconds{site="oslo"}'] == "900"
    assert values["xobackup_engine_database_up"] == "1"
