"""Takes the picture of the status page that the README shows: a month of runs that never were, in a real browser.

``python docs/pictures/take.py``, in an environment with the extra ``test``, on a machine with Chromium.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from playwright.sync_api import sync_playwright  # noqa: E402

from xobackup.clock import FakeClock, SystemClock  # noqa: E402
from xobackup.history.store import default_url, open_store  # noqa: E402
from xobackup.web.app import make_app  # noqa: E402
from xobackup.web.server import Place, WebServer  # noqa: E402
from xotest.journals import NAMES, Story  # noqa: E402
from xotest.web import PaperHouse, door_of  # noqa: E402

VMS = ("web-1", "web-2", "erp", "mail", "directory-1", "directory-2", "gitlab", "wiki", "files")
DAY_S = 86_400


def main() -> None:
    """A month of nights; one VM failed in the last two."""
    directory = Path(tempfile.mkdtemp(prefix="pictures."))
    chance = random.Random(7)
    uuids = {f"{number:08}-0000-4000-8000-000000000000": name for number, name in enumerate(VMS)}
    NAMES.update(uuids)
    now_s = SystemClock().now_s()
    for night in range(30, 0, -1):
        clock = FakeClock(now_s - night * DAY_S + 18 * 3600)
        story = Story(directory / "journal", clock, f"{chance.getrandbits(32):08x}")
        for uuid, name in uuids.items():
            bad = chance.random() < 0.02 or (name == "erp" and night < 3)
            reason = "the remote is full: 12.0 GiB are free, 80.0 GiB are needed" if bad else ""
            size = 0 if bad else int(chance.lognormvariate(21, 0.7))
            story.vm(uuid, outcome="failed" if bad else "ok", read_bytes=size, reason=reason)
        story.end("ok")
    store = open_store(default_url(directory))
    clock = FakeClock(now_s)
    house = PaperHouse(history=store, journals=directory / "journal", clock=clock)
    server = WebServer(make_app(house, door_of(directory, clock)), Place(host="127.0.0.1", port=0))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1100, "height": 620})
            page.goto(server.url)
            page.screenshot(path=str(HERE / "overview.png"))
            browser.close()
    finally:
        server.stop()
        store.close()
        shutil.rmtree(directory)


main()
