"""``[notify.NAME]``: after runs, by the service, and for a try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from xobackup.notify.due import NAME, read_settled, write_settled
from xotest.listener import Listener, listening
from xotest.site import Site


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


def configured(site: Site, listener: Listener, more: str = "") -> None:
    site.configure()
    text = f'[notify.ops]\nwebhook = "{listener.url}/hook"\non = ["failure", "rpo", "service"]\n{more}'
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


def told(listener: Listener) -> dict[str, object]:
    """The newest that came."""
    found = json.loads(listener.came[-1].body)
    assert isinstance(found, dict)
    return found


def test_damage_is_told_and_is_over_when_all_was_read_again(site: Site, listener: Listener) -> None:
    configured(site, listener)
    site.config.write_text(site.config.read_text().replace('"failure", "rpo", "service"', '"damage"'))
    site.xobackup("run")
    path = max(site.vdi_paths("web"), key=lambda one: one.stat().st_size)
    whole = path.read_bytes()
    site.damage("web")
    site.xobackup("verify", code=5)
    (new,) = told(listener)["new"]  # type: ignore[misc]
    assert (new["kind"], new["about"]) == ("damage", "web") and "digest mismatch" in new["text"]
    assert "(verify)" in site.xobackup("history", "list").out and "damage" in site.xobackup("history", "list").out
    path.write_bytes(whole)
    site.xobackup("verify", "--latest")
    site.xobackup("verify", "--percent", "99")
    site.xobackup("run")
    assert len(listener.came) == 1, "not all of it was looked at"
    site.damage("web")
    target = site.directory / "disk.raw"
    site.xobackup("restore", "disk", "web", "-r", "nas", "-d", path.parent.name, "--output", target, code=5)
    assert "(restore)" in site.xobackup("history", "list").out
    path.write_bytes(whole)
    site.xobackup("verify", "--vm", "web")
    assert told(listener)["title"] == "xobackup: all is well again"


def test_a_vm_without_a_job_is_told_until_it_has_one_or_needs_none(site: Site, listener: Listener) -> None:
    configured(site, listener)
    site.config.write_text(site.config.read_text().replace('"failure", "rpo", "service"', '"anomaly"'))
    site.xobackup("run", "--vm", "web")
    (new,) = told(listener)["new"]  # type: ignore[misc]
    assert new["about"] == "scratch" and "no job selects it" in new["text"], "not those that the job has besides"
    journals = (site.state / "journal").glob("*.jsonl")
    said = [json.loads(line) for path in journals for line in path.read_text().splitlines()]
    disks = [one for one in said if one["kind"] == "disk-transferred"]
    assert disks and all(one["sampled_bytes"] and 0 < one["packed"] <= 1 and one["chain"] == 0 for one in disks)
    status = site.xobackup("status", "--problems", code=0)
    assert "unusual: scratch: nobody backs it up" in status.out and "what to do: add it to a job" in status.out
    assert "1 thing unusual" in site.xobackup("status", "--nagios", code=1).out
    site.pool.call("VM.add_tags", site.pool.vm_named("scratch"), "xo:no-bak")
    site.xobackup("run", "--vm", "web")
    assert told(listener)["title"] == "xobackup: all is well again"
    assert "unusual" not in site.xobackup("status").out


def test_a_digest_is_sent_once_a_day_and_by_hand(site: Site, listener: Listener) -> None:
    site.lines = ['rpo = "1d"']
    configured(site, listener, f'[notify.mail]\nwebhook = "{listener.url}/mail"\ndigest = "daily"\non = ["digest"]\n')
    site.xobackup("run")
    assert listener.came == [], "who is new begins with the next one"
    settled = read_settled(site.state)
    assert settled is not None
    write_settled(site.state, {"mail": settled["mail"] - timedelta(days=1)})
    listener.status = 500
    assert "its digest was not sent: it answered 500" in site.xobackup("run").err
    listener.status = 200
    site.xobackup("run")
    assert [request.path for request in listener.came] == ["/mail", "/mail"] and told(listener)["digest"] == "daily"
    assert told(listener)["headline"] == "2 of 2 VMs within their RPO" and told(listener)["jobs"]
    site.xobackup("run")
    assert len(listener.came) == 2
    (site.state / NAME).write_bytes(b"{")
    site.xobackup("run")
    assert len(listener.came) == 3, "rather twice than never"
    page = site.directory / "digest.html"
    shown = site.xobackup("notify", "digest", "--print", "--html", page)
    assert shown.out.startswith("2 of 2 VMs within their RPO\n") and "- nightly: 5 ok" in shown.out
    assert "<!DOCTYPE html>" in page.read_text() and len(listener.came) == 3
    assert "mail: sent" in site.xobackup("notify", "digest").out and len(listener.came) == 4
    assert "there is no 'x'" in site.xobackup("notify", "digest", "x", code=2).err


@pytest.mark.parametrize(("lines", "told"), [
    ("", "expected one of webhook"),
    ('webhook = "http://x"\nhealthchecks = "http://y"', "expected one of webhook"),
    ('apprise = "json://x"\nsecret = "s"', "only with webhook"),
    ('webhook = "http://x"\njobs = ["nobody"]', "there is no job 'nobody'"),
    ('webhook = "http://x"\non = ["everything"]', "on"),
    ('webhook = "http://x"\nrepeat = "often"', "expected a time"),
    ('healthchecks = "http://x"\ndigest = "daily"', "a check reads nothing"),
    ('webhook = "http://x"\ndigest = "hourly"', "digest"),
    ('webhook = "http://x"\ndigest_at = "07:00"', "only with digest"),
    ('webhook = "http://x"\ndigest = "daily"\ndigest_at = "7"', "digest_at"),
    ('webhook = "http://x"\ndigest = "daily"\ndigest_day = "sun"', 'only with digest = "weekly"'),
    ('webhook = "http://x"\ndigest = "weekly"\ntimezone = "Mars/Olympus"', "no such time zone"),
    ('webhook = "http://x"\non = ["digest"]', "only with digest"),
    ('webhook = "http://x"\ndigest = "daily"\non = ["digest", "rpo"]', "expected it alone"),
])  # fmt: skip
def test_what_cannot_work_is_refused(site: Site, lines: str, told: str) -> None:
    site.configure()
    site.config.write_text(site.config.read_text() + f"[notify.ops]\n{lines}\n")
    assert told in site.xobackup("config", "check", code=2).err
