"""``[notify.NAME]``: after runs, by the service, and for a try."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from xotest.listener import Listener, listening
from xotest.site import Site


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


def configured(site: Site, listener: Listener, more: str = "") -> None:
    site.configure()
    text = f'[notify.ops]\nwebhook = "{listener.url}/hook"\n{more}'
    site.config.write_text(site.config.read_text() + text)


def test_a_run_that_fails_is_told_and_that_it_went_well_again(site: Site, listener: Listener) -> None:
    configured(site, listener)
    site.xobackup("run")
    assert listener.came == [], "nothing is wrong, nothing is said"
    aside = site.repository.rename(site.directory / "aside")
    site.xobackup("run", code=6)
    (request,) = listener.came
    told = json.loads(request.body)
    assert told["open"] >= 1 and not told["good"] and "nightly" in json.dumps(told)
    aside.rename(site.repository)
    site.xobackup("run")
    assert json.loads(listener.came[-1].body)["title"] == "xobackup: all is well again"


def test_a_channel_that_fails_costs_no_run(site: Site, listener: Listener) -> None:
    configured(site, listener, '[notify.gone]\nhealthchecks = "http://127.0.0.1:9/x"\n')
    result = site.xobackup("run")
    assert "notify.gone: not told" in result.err


def test_a_history_that_cannot_be_read_is_a_trouble_and_not_that_all_is_well(site: Site, listener: Listener) -> None:
    configured(site, listener, f'[notify.watchdog]\nhealthchecks = "{listener.url}/ping"\n')
    site.xobackup("run")
    assert [request.path for request in listener.came] == ["/ping"]
    (site.state / "history.db").write_bytes(b"this is no database" * 1000)
    site.xobackup("run")
    assert [request.path for request in listener.came[1:]] == ["/hook", "/ping/fail"]
    (told,) = json.loads(listener.came[1].body)["new"]
    assert told["kind"] == "service" and "the history cannot be written or read" in told["text"]
    site.xobackup("history", "rebuild")
    site.xobackup("run")
    assert json.loads(listener.came[3].body)["title"] == "xobackup: all is well again"


def test_a_try(site: Site, listener: Listener) -> None:
    configured(site, listener)
    assert "ops: sent" in site.xobackup("notify", "test").out
    assert "this is a test" in json.loads(listener.came[0].body)["title"]
    listener.status = 403
    assert "it answered 403" in site.xobackup("notify", "test", "ops", code=1).err
    assert "there is no 'x'" in site.xobackup("notify", "test", "x", code=2).err


@pytest.mark.parametrize(("lines", "told"), [
    ("", "expected one of webhook"),
    ('webhook = "http://x"\nhealthchecks = "http://y"', "expected one of webhook"),
    ('apprise = "json://x"\nsecret = "s"', "only with webhook"),
    ('webhook = "http://x"\njobs = ["nobody"]', "there is no job 'nobody'"),
    ('webhook = "http://x"\non = ["everything"]', "on"),
    ('webhook = "http://x"\nrepeat = "often"', "expected a time"),
])  # fmt: skip
def test_what_cannot_work_is_refused(site: Site, lines: str, told: str) -> None:
    site.configure()
    site.config.write_text(site.config.read_text() + f"[notify.ops]\n{lines}\n")
    assert told in site.xobackup("config", "check", code=2).err
