"""The pages: what they say, that nothing gets into them unescaped, that they need no script."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from xobackup.clock import FakeClock
from xobackup.engine.progress import Snapshot
from xobackup.notify.oddities import Oddity
from xotest.journals import DATABASE, NAMES, WEB, one_run
from xotest.web import PaperHouse

PAGES = [
    "/",
    "/runs",
    "/runs/run-2",
    f"/vms/{WEB}",
    f"/vms/{DATABASE}",
    f"/vms/{WEB}/points",
    "/backups",
    "/schedules",
    "/remotes",
    "/replicas",
    "/dr",
    "/workers",
    "/operations",
    "/problems",
    "/login",
]


def page(client: TestClient, path: str, code: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def text_of(html: str) -> str:
    plain = re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL))
    return " ".join(plain.split())


class Outline(HTMLParser):
    """What a page loads and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "action"):
                self.addresses.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


def test_the_first_line_is_where_one_stands(client: TestClient) -> None:
    html = page(client, "/")
    assert re.search(r'<h1 id="headline" class="bad">1 of 2 VMs within their RPO</h1>', html)
    text = text_of(html)
    assert text.index("database") < text.index("web"), "who needs somebody comes first"
    assert "late" in text and "the remote is full" in text


@pytest.mark.parametrize("path", PAGES)
def test_every_page_asks_nobody_else_and_has_no_script_in_it(client: TestClient, path: str) -> None:
    outline = Outline()
    outline.feed(page(client, path))
    assert outline.addresses and all(address.startswith(("/", "#")) for address in outline.addresses)
    assert not any(address.startswith("//") for address in outline.addresses)
    assert outline.handlers == [], "the policy for content would not let them run"


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_a_page_leads_somewhere(client: TestClient, path: str) -> None:
    outline = Outline()
    outline.feed(page(client, path))
    for address in {one for one in outline.addresses if one.startswith("/") and "logout" not in one}:
        assert client.get(address.replace("&amp;", "&")).status_code in (200, 303, 405), address


def test_hostile_names_are_only_text(
    client: TestClient, house: PaperHouse, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    nasty = "33333333-3333-4333-8333-333333333333"
    monkeypatch.setitem(NAMES, nasty, '"><script>alert(1)</script>\x1b[31m\n{{7*7}}' + "x" * 4096)
    clock.advance(60)
    one_run(house.journals, clock, "<b>run<b>", outcomes={nasty: "failed", WEB: "ok"})
    for path in ("/", "/runs", "/runs/%3Cb%3Erun%3Cb%3E", f"/vms/{nasty}", "/problems"):
        html = page(client, path)
        assert "<script>alert" not in html and "<b>run" not in html and "\x1b" not in html, path
        assert "{{7*7}}" in html or "script" not in text_of(html), "a name is no template"
        assert "xxxxx" * 60 not in html, "cut to what a layout bears"


def test_a_list_of_vms_can_be_narrowed_and_paged(client: TestClient, house: PaperHouse, clock: FakeClock) -> None:
    many = {f"{number:08}-0000-4000-8000-000000000000": "ok" for number in range(250)}
    one_run(house.journals, clock, "many", outcomes=many)
    assert "1 to 100 of 252" in text_of(page(client, "/"))
    assert "201 to 252 of 252" in text_of(page(client, "/?page=3"))
    assert "No VM fits this" in text_of(page(client, "/?q=nothing"))
    late = text_of(page(client, "/?state=late"))
    assert "database" in late and "web " not in late.split("Next run")[1]
    assert page(client, "/?page=99999") and client.get("/?page=0").status_code == 422


def test_a_run_in_depth(client: TestClient) -> None:
    html = page(client, "/runs/run-2")
    text = text_of(html)
    assert "the remote is full" in text and "What to do: make room" in text
    assert text.index("database failed") < text.index("web ok")
    assert "transfer: 10 s, the remote is full" in html and 'class="phase-prepare"' in html
    assert "no NBD here" in text and "slowest" in text.lower()
    assert "no run has this id" in page(client, "/runs/nothing", 404)


def test_a_vm_shows_its_runs_and_how_to_get_it_back(client: TestClient) -> None:
    html = page(client, f"/vms/{DATABASE}")
    assert "xobackup restore vm" in html and text_of(html).count("2026-01-0") >= 3
    assert "whole" in html and '<rect class="warn"' in html, "the full one stands out"
    assert "no run knows this VM" in page(client, "/vms/nobody", 404)
    stranger = "/vms/99999999-1111-4111-8111-111111111111"
    assert client.get(stranger).headers["location"] == f"{stranger}/points", "there may be backups by others"


def test_what_goes_on_is_shown(client: TestClient, house: PaperHouse) -> None:
    assert "Going on now" not in page(client, "/")
    house.meters = (
        Snapshot(
            name="web system", stage="transfer", done_bytes=1 << 30, total_bytes=2 << 30, rate_bytes_s=100 << 20,
            eta_s=10.0, bottleneck="source", elapsed_s=10, finished=False, note="waits for the SR",
        ),
    )  # fmt: skip
    text = text_of(page(client, "/"))
    for said in (
        "Going on now",
        "1.0 GiB of 2.0 GiB",
        "100 MiB/s",
        "10 s left",
        "slowest: source",
        "waits for the SR",
    ):
        assert said in text


def test_remotes_problems_and_the_calendar(client: TestClient, house: PaperHouse) -> None:
    text = text_of(page(client, "/remotes"))
    assert "1 B free of 4 B" in text and "it does not answer" in text and "not looked at it yet" in text
    house.told = ["the configuration is not followed"]
    odd = Oddity(key="k", job="", about="<b>web", text="<i>unlike</i> it", advice="look & see", uuid=WEB)
    house.odd = [odd, replace(odd, key="l", about="other")]
    text = text_of(page(client, "/problems"))
    assert "&lt;b&gt;web, other &lt;i&gt;unlike&lt;/i&gt; it What to do: look &amp; see" in text
    assert client.get("/api/v1/problems").json()["unusual"][0]["advice"] == "look & see"
    assert "the configuration is not followed" in text and "the remote is full" in text and "make room" in text
    assert "the configuration is not followed" in text_of(page(client, "/"))
    assert "night" in text_of(page(client, "/schedules"))


def test_a_history_that_is_gone_is_said_by_every_page(client: TestClient, house: PaperHouse) -> None:
    house.history.engine.dispose()
    path = house.journals.parent / "history.db"
    path.write_bytes(b"no database " * 500)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    answer = client.get("/")
    assert answer.status_code == 503 and "rebuild" in answer.text
    problem = client.get("/api/v1/status").json()
    assert problem["status"] == 503 and "rebuild" in problem["hint"]


def test_an_empty_house(client: TestClient, house: PaperHouse) -> None:
    for path in house.journals.glob("*.jsonl"):
        path.unlink()
    with house.history.writing() as connection:
        for table in ("latest", "runs", "files"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    assert "No VM was backed up yet" in page(client, "/")
    assert "0 of 0 VMs" in page(client, "/") and "No run fits this" in page(client, "/runs")
