"""Digests: what they say, in text and HTML, whatever VMs are called; that each is sent once, at its time."""

from __future__ import annotations

import email
import email.policy
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from schedules.calendar import Calendar, timing_of
from schedules.periods import zone_of
from xobackup.history.standing import Objective, overview
from xobackup.notify.channels import Channel, send
from xobackup.notify.decide import Message
from xobackup.notify.digest import LISTED_MAX, Digest, digest_of
from xobackup.notify.due import NAME, due, read_settled, write_settled
from xobackup.notify.troubles import Kind, Seen, Trouble

HOSTILE = "<img src=x onerror=alert(1)>\r\nBcc: evil@example.org\x07{{ 7*7 }}" + "x" * 4096
DAY = 86_400.0
AT = datetime(2026, 11, 27, 6, tzinfo=UTC).timestamp()


def digest(name: str = "web", troubles: int = 1) -> Digest:
    row = {
        "uuid": "u", "name": name, "kind": "vm", "pool": "p", "job": "nightly", "run_id": "r", "began_at": AT,
        "ended_at": AT, "outcome": "failed", "reason": name, "mode": "delta", "good_at": AT - 3 * DAY,
        "good_run_id": "r", "failures": 2,
    }  # fmt: skip
    found = overview([row, {**row, "uuid": "v", "good_at": AT}], {"nightly": Objective(rpo_s=DAY, why="")}, AT)
    seen = Seen()
    seen.vms(found)
    sample = {"free_bytes": 5 << 30, "problem": ""}
    return digest_of(
        found,
        seen.troubles * troubles,
        period="daily",
        since=AT - DAY,
        until=AT,
        zone=zone_of("Europe/Paris"),
        sums=[
            {"job": name, "outcome": "ok", "runs": 6, "read_bytes": 3 << 30},
            {"job": name, "outcome": "failed", "runs": 1, "read_bytes": None},
        ],
        samples={
            "nas": [
                {**sample, "used_bytes": 10 << 30},
                {**sample, "used_bytes": 12 << 30},
            ],
            "gone": [{**sample, "used_bytes": None, "free_bytes": None, "problem": name}],
            "new": [],
        },
        depths={"nas": (0.25, 3)},
        fulls=[{"job": name, "why": "moved", "count": 2}],
        tests=[
            {"name": name, "uuid": "u", "remote": "nas", "point": "p1", "ok": True, "reason": ""},
            {"name": name, "uuid": "u", "remote": name, "point": "p2", "ok": False, "reason": name},
        ],
    )


def test_it_says_where_one_stands_and_what_happened() -> None:
    found = digest()
    lines = found.body.splitlines()
    assert (
        lines[0] == "1 of 2 VMs within their RPO"
        and lines[1] == "Thu 2026-11-26 07:00 CET to Fri 2026-11-27 07:00 CET"
    )
    assert found.title == "xobackup daily: 1 of 2 VMs within their RPO, 3 troubles open" and not found.good
    for line in (
        "- web: 6 ok, 1 failed; 3.0 GiB read",
        "- nas: 12.0 GiB used (+2.0 GiB), 5.0 GiB free, 25% of its blocks verified within 30 days, "
        "3 to be merged or deleted",
        "- gone: web",
        "- new: nothing is known of its space",
        "Disks read whole although they had a base: 2",
        "- web: 2, moved",
        "Restore tests: 1 passed, 1 failed",
        "- web from web: web",
    ):
        assert line in lines, line
    html = found.html
    for text in (
        "1 of 2 VMs within their RPO",
        "6 ok, 1 failed",
        "+2.0 GiB",
        "25% of its blocks",
        "1 passed, 1 failed",
    ):
        assert text in html
    data = found.as_data()
    assert (data["digest"], data["open"], data["jobs"][0]["outcomes"]) == ("daily", 3, {"ok": 6, "failed": 1})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "href") or name.startswith("on")]


def test_whatever_a_vm_is_called_it_stays_text_and_bounded() -> None:
    found = digest(HOSTILE, troubles=500)
    parser = Tags()
    parser.feed(found.html)
    assert not parser.loaded and not parser.tags & {"img", "script", "a", "iframe"}
    assert "{{ 7*7 }}" in found.html and "\x07" not in found.html and len(found.html) < 200_000
    assert "\r" not in found.body and "\x07" not in found.body and "x" * 1000 not in found.body
    assert "\n" not in found.title and f"and {1500 - LISTED_MAX} more" in found.body


@contextmanager
def mail_server() -> Iterator[tuple[int, list[bytes]]]:
    """One that takes everything."""
    came: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line.strip().upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (more := self.rfile.readline()) not in (b".\r\n", b""):
                        lines.append(more.removeprefix(b"."))
                    came.append(b"".join(lines))
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], came
        server.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports
def test_a_mail_holds_both_and_its_head_cannot_be_written_by_a_vm() -> None:
    trouble = Trouble(
        key="k", kind=Kind.FAILURE, job="nightly", about=digest(HOSTILE).tests[0].name, text="<b>it</b>"
    )
    message = Message(title="xobackup: it failed", new=(trouble,), again=(), over=(), open=1)
    with mail_server() as (port, came):
        channel = Channel(
            name="m", apprise=f"mailto://127.0.0.1:{port}?from=a@example.org&to=b@example.org&mode=insecure"
        )
        send(channel, digest(HOSTILE), now=AT)
        send(channel, message, now=AT)
    sent, plain = (email.message_from_bytes(raw, policy=email.policy.default) for raw in came)
    assert "Bcc" not in sent and sent["To"] and "1 of 2 VMs within their RPO" in str(sent["Subject"])
    html = part(sent, "text/html")
    assert html.lstrip().startswith("<!DOCTYPE html>") and "<img" not in html
    text = part(sent, "text/plain")
    assert "1 of 2 VMs within their RPO" in text and "25% of its blocks verified within 30 days" in text
    assert [one.get_content_type() for one in plain.walk()] == ["text/plain"], "there names are no HTML"
    assert "Bcc" not in plain


def part(message: Any, kind: str) -> str:
    return next(str(one.get_content()) for one in message.walk() if one.get_content_type() == kind)


def calendar(cron: str, zone: str = "Europe/Paris") -> Calendar:
    return Calendar(name="m", timing=timing_of(cron=cron, every=None, timezone=zone))


def sent_over(cron: str, begin: datetime, hours: int) -> list[datetime]:
    """What an honest service sends that looks every quarter of an hour, begun anew at each look."""
    settled, found = None, []
    for quarter in range(hours * 4):
        now = begin + timedelta(minutes=15 * quarter)
        one = due(calendar(cron), settled, now)
        if one is not None:
            settled = one.nominal
            found += [one.nominal] if one.send else []
    return found


@pytest.mark.parametrize("night", [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 7 * * *"])
def test_once_a_day_also_when_summer_time_comes_and_goes(night: datetime, cron: str) -> None:
    found = sent_over(cron, night, 72)
    assert len(found) == 3 and len({moment.date() for moment in found}) == 3


def test_once_a_week_late_after_a_rest_and_never_twice() -> None:
    weekly = calendar("0 7 * * mon", "UTC")
    monday = datetime(2026, 11, 23, 7, tzinfo=UTC)
    first = due(weekly, None, monday + timedelta(days=1))
    assert first is not None and (first.send, first.nominal) == (False, monday), "who is new begins with the next one"
    assert due(weekly, monday, monday + timedelta(days=6)) is None
    late = due(weekly, monday - timedelta(days=70), monday + timedelta(days=2))
    assert late is not None and late.send and late.nominal == monday
    assert monday - late.since < timedelta(days=14), "of several that were missed there is one, of a bounded time"
    back = due(weekly, monday, monday - timedelta(days=3))
    assert back is not None and not back.send, "a clock that was wrong sends nothing"


def test_what_was_sent_can_be_lost(tmp_path: Path) -> None:
    assert read_settled(tmp_path) == {}
    write_settled(tmp_path, {"m": datetime(2026, 1, 1, tzinfo=UTC)})
    assert read_settled(tmp_path) == {"m": datetime(2026, 1, 1, tzinfo=UTC)}
    for content in (b"", b"[]", b'{"m": 7}', b'{"m": "2026-01-01T00:00:00"}'):
        (tmp_path / NAME).write_bytes(content)
        assert read_settled(tmp_path) is None, "then it is sent again"
    assert re.fullmatch(r"\w+\.json", NAME)
