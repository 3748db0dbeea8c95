"""The status page of a real service in a real browser; and its passwords and tokens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from xobackup.clock import FakeClock
from xobackup.history.store import default_url, open_store
from xobackup.web import requests
from xobackup.web.access import hash_password
from xobackup.web.app import make_app
from xobackup.web.server import Place, WebServer
from xotest.journals import DATABASE, WEB, one_run
from xotest.paper import POINT
from xotest.programs import need
from xotest.site import Site, command, environment, start, wait_until
from xotest.web import PASSWORD as PAPER_PASSWORD
from xotest.web import PaperHouse, door_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASSWORD = "three in the morning"
PAGES = ("/", "/runs", "/schedules", "/backups", "/remotes", "/workers", "/problems", "/audit")
NASTY = '"><script>alert(1)</script>' + "W" * 300
FAINT = """() => {
  const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const bright = (c) => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (el) => {
    for (; el; el = el.parentElement) {
      const found = numbers(getComputedStyle(el).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *:not(svg *):not(option):not(script):not(noscript)")]
    .filter((el) => [...el.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
    .map((el) => {
      const [a, b] = [bright(numbers(getComputedStyle(el).color)), bright(ground(el))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), el.tagName, el.textContent.trim().slice(0, 40)];
    })
    .filter((one) => one[0] < 4.5);
}"""
"""Texts whose contrast is below what WCAG 2 asks for (AA)."""


def web(site: Site, *lines: str) -> None:
    site.configure('rpo = "1d"')
    text = site.config.read_text()
    more = [
        "[schedules.yearly]", 'jobs = ["nightly"]', 'cron = "0 3 1 1 *"',
        "[web]", 'listen = "127.0.0.1:0"', *lines,
        "[web.users.anna]", 'role = "admin"', f'password_hash = "{hash_password(PASSWORD)}"',
    ]  # fmt: skip
    site.config.write_text(text + "\n".join(more) + "\n")


@pytest.fixture
def served(site: Site, tmp_path: Path) -> Iterator[tuple[Site, str]]:
    """A service, and where its page is."""
    web(site)
    site.xobackup("run")
    log = tmp_path / "log"
    with log.open("w") as out:
        process = start("serve", "--json", "-c", site.config, stdout=out)
    try:
        wait_until(lambda: "status page at" in log.read_text())
        records = [json.loads(line) for line in log.read_text().splitlines()]
        yield site, next(str(record["url"]) for record in records if record.get("url"))
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = need("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def kept(tmp_path: Path, name: str) -> str:
    """Where a picture goes: to the artefacts, if somebody wants them."""
    return str(Path(os.environ.get("XOBACKUP_TEST_ARTEFACTS") or tmp_path) / f"{name}.png")


def complaints(page: Page) -> list[str]:
    """What the browser has to say against the pages, from now on."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return wrong


def log_in(page: Page, url: str, *, password: str = PASSWORD) -> None:
    page.goto(f"{url}/login")
    page.fill("input[name=name]", "anna")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Log out")


@pytest.fixture
def on_paper(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Pages of what a real service would need two sites for, with nasty names: where they are, and which."""
    clock = FakeClock()
    (tmp_path / "paper").mkdir()
    journals = tmp_path / "paper" / "journal"
    one_run(journals, clock, "run-1", outcomes={WEB: "ok", DATABASE: "failed"})
    store = open_store(default_url(tmp_path / "paper"))
    house = PaperHouse(history=store, journals=journals, clock=clock)
    house.backups.name = NASTY
    chosen = {"remote": "nas", "vm": WEB, "point": POINT}
    wishes = [
        requests.RestorePlan(**chosen, pool="main", vm_name=NASTY),
        requests.Verify(remote="nas", vm_name=NASTY, vm=WEB),
        requests.DrPlan(plan="lyon"),
        requests.DrTest(plan="lyon"),
    ]
    made = [house.desk.order(wish, "anna").id for wish in wishes]
    assert all(house.desk.wait(one, 30).ended for one in made)
    made.append(house.desk.restore(made[0], "anna").id)
    server = WebServer(make_app(house, door_of(tmp_path, clock)), Place(host="127.0.0.1", port=0))
    pages = [
        "/backups",
        f"/vms/{WEB}",
        f"/vms/{WEB}/points",
        "/remotes",
        "/replicas",
        "/dr",
        "/workers",
        "/operations",
        "/runs/run-1",
    ]
    pages += [f"/restore?{urlencode({**chosen, 'pool': 'main'})}", *(f"/operations/{one}" for one in made)]
    yield server.url, pages
    server.stop()
    store.close()


def test_every_page_in_a_browser(
    served: tuple[Site, str], browser: Browser, tmp_path: Path, on_paper: tuple[str, list[str]]
) -> None:
    _, url = served
    for name, width, scheme in (("desk", 1200, "light"), ("phone", 390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        wrong = complaints(page)
        log_in(page, url)
        for path in PAGES:
            look_at(page, url + path, width, kept(tmp_path, f"{name}{path.replace('/', '-')}"))
        page.goto(f"{url}/runs")
        page.click("tbody a")
        assert page.locator("svg.chart rect").count() > 4
        page.screenshot(path=kept(tmp_path, f"{name}-run"), full_page=True)
        page.click("section.subject h2 a")
        assert "xobackup restore vm" in page.content()
        log_in(page, on_paper[0], password=PAPER_PASSWORD)
        for number, path in enumerate(on_paper[1]):
            look_at(page, on_paper[0] + path, width, kept(tmp_path, f"{name}-paper-{number}"))
        assert wrong == []
        context.close()


def look_at(page: Page, url: str, width: int, picture: str) -> None:
    """It fits the window, and all of it can be read."""
    answer = page.goto(url)
    assert answer is not None and answer.status == 200, url
    page.screenshot(path=picture, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{url} is wider than the window"
    assert page.evaluate(FAINT) == [], f"{url} has texts of little contrast"


def test_a_run_is_ordered_seen_and_over(served: tuple[Site, str], browser: Browser) -> None:
    site, url = served
    page = browser.new_context().new_page()
    page.goto(url)
    assert page.inner_text("#headline") == "2 of 2 VMs within their RPO"
    log_in(page, url)
    page.goto(f"{url}/schedules")
    page.click("text=Run now")
    page.goto(f"{url}/runs")
    runs = f"{url}/api/v1/runs"
    wait_until(lambda: sum(1 for run in page.request.get(runs).json()["runs"] if run["ended_at"]) == 2)
    page.goto(f"{url}/runs")
    assert page.locator("tbody tr").count() == 2
    page.goto(f"{url}/vms/{site.uuid('web')}/points")
    page.locator("a.button").first.click()
    page.fill("input[name=name]", "web again")
    page.check("input[name=new_macs]")
    page.click("text=Show the plan")
    page.wait_for_selector("text=Restore it so")
    assert "web again" in page.inner_text("main") and "1024 GiB are free" in page.inner_text("main")
    page.click("text=Restore it so")
    page.wait_for_selector("text=What was created")  # without loading the page again
    assert site.pool.vm_named("web again")
    page.goto(f"{url}/audit")
    assert re.search(r"anna\s+127\.0\.0\.1\s+run\s+yearly", page.inner_text("table"))
    assert re.search(r"restore done.*\n?.*web", page.inner_text("table"))
    page.context.close()
    assert len(site.xobackup("history", "list", "--json").of("run")) == 2


def test_all_of_it_works_without_scripts_and_by_keyboard(served: tuple[Site, str], browser: Browser) -> None:
    site, url = served
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, url)
    page.goto(f"{url}/schedules")
    page.keyboard.press("Tab")
    assert page.inner_text(":focus") == "To the content"
    page.click("text=Pause")
    assert "paused" in page.inner_text("main") and "by anna" in page.inner_text("main")
    assert site.xobackup("schedules", "list", "--json").of("schedule")[0]["paused"] == "by anna"
    page.click("text=Resume")
    page.goto(f"{url}/vms/{site.uuid('web')}/points")
    page.focus("summary")
    for key in ("Enter", "Tab", *"audit", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("text=pinned: audit")
    page.click("text=Log out")
    page.goto(f"{url}/schedules")
    assert "Run now" not in page.content()
    context.close()


def test_tokens_by_the_command_line(served: tuple[Site, str]) -> None:
    site, url = served
    made = site.xobackup("web", "token", "create", "ci", "--role", "operator", "--expires", "1d")
    request = urllib.request.Request(f"{url}/api/v1/schedules/yearly/pause", method="POST")
    request.add_header("Authorization", f"Bearer {made.out.strip()}")
    with urllib.request.urlopen(request) as answer:
        assert json.loads(answer.read()) == {"schedule": "yearly", "paused": "by the API"}
    assert [one["role"] for one in site.xobackup("web", "token", "list", "--json").of("token")] == ["operator"]
    assert "already" in site.xobackup("web", "token", "create", "ci", code=2).err
    site.xobackup("web", "token", "revoke", "ci")
    assert "there is no token" in site.xobackup("web", "token", "revoke", "ci", code=2).err
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)
    for wrong in (["--role", "king"], ["--expires", "soon"]):
        site.xobackup("web", "token", "create", "x", *wrong, code=2)


def test_a_port_that_is_taken_costs_the_page_only(served: tuple[Site, str], tmp_path: Path) -> None:
    site, url = served
    other = Site(directory=tmp_path / "other", pool=site.pool)
    other.directory.mkdir()
    web(other)
    other.config.write_text(other.config.read_text().replace(":0", url.rsplit(":", 1)[1].join(":,").rstrip(",")))
    log = tmp_path / "other-log"
    with log.open("w") as out:
        process = start("serve", "--json", "-c", other.config, stdout=out)
    try:
        wait_until(lambda: "there is no status page" in log.read_text())
        assert "serving yearly" in log.read_text() and process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_password_becomes_a_hash() -> None:
    made = subprocess.run(
        command("web", "password"),
        input="a long password\n",
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert made.returncode == 0 and made.stdout.startswith("$argon2id$")
    short = subprocess.run(
        command("web", "password"), input="short\n", capture_output=True, text=True, env=environment(), timeout=60
    )
    assert short.returncode == 2 and "at least 8" in short.stderr


@pytest.mark.parametrize(("lines", "told"), [
    (['listen = "0.0.0.0:8480"'], "there have to be users"),
    (['listen = "nonsense"'], "expected address:port"),
    (['listen = "[::1]:99999"'], "expected address:port"),
    (['certificate = "/x"'], "belong together"),
    (['timezone = "Mars"'], "Mars"),
    (['trusted_proxies = ["proxy"]'], "proxy"),
    (['users.x.password_hash = "plain"'], "password_hash"),
])  # fmt: skip
def test_what_would_not_be_safe_is_refused(site: Site, lines: list[str], told: str) -> None:
    site.configure()
    site.config.write_text(site.config.read_text() + "[web]\n" + "\n".join(lines) + "\n")
    assert told in site.xobackup("config", "check", code=2).err


def test_beyond_this_machine_it_takes_users_and_tls_or_a_proxy(site: Site) -> None:
    user = f'users.anna.password_hash = "{hash_password(PASSWORD)}"'
    site.configure()
    text = site.config.read_text() + f'[web]\nlisten = "0.0.0.0:8480"\n{user}\n'
    site.config.write_text(text)
    assert "certificate and key" in site.xobackup("config", "check", code=2).err
    site.config.write_text(text + 'trusted_proxies = ["10.0.0.1"]\n')
    site.xobackup("config", "check")
