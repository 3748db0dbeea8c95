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

import pytest

from xobackup.web.access import hash_password
from xotest.programs import need
from xotest.site import Site, command, environment, start, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASSWORD = "three in the morning"
PAGES = ("/", "/runs", "/schedules", "/remotes", "/problems", "/audit")


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


def log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/login")
    page.fill("input[name=name]", "anna")
    page.fill("input[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Log out")


def test_every_page_in_a_browser(served: tuple[Site, str], browser: Browser, tmp_path: Path) -> None:
    _, url = served
    for name, width, scheme in (("desk", 1200, "light"), ("phone", 390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        wrong = complaints(page)
        log_in(page, url)
        for path in PAGES:
            page.goto(url + path)
            page.screenshot(path=kept(tmp_path, f"{name}{path.replace('/', '-')}"), full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
        page.goto(f"{url}/runs")
        page.click("tbody a")
        assert page.locator("svg.chart rect").count() > 4
        page.screenshot(path=kept(tmp_path, f"{name}-run"), full_page=True)
        page.click("section.subject h2 a")
        assert "xobackup restore vm" in page.content()
        assert wrong == []
        context.close()


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
    page.goto(f"{url}/audit")
    assert re.search(r"anna\s+127\.0\.0\.1\s+run\s+yearly", page.inner_text("table"))
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
