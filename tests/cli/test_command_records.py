"""What is kept of a command's words, and how a child that does not listen ends."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from xobackup.cli.serving import commands
from xobackup.cli.serving.commands import BYTES_MAX, LAST_MAX, RECORDS_MAX, Done, Records, carry_out
from xobackup.cli.telling import Teller
from xobackup.clock import SystemClock
from xobackup.config.model import Configuration
from xobackup.engine.events import RunStarted, as_record
from xobackup.engine.progress import Progress
from xobackup.service.operations import Hand, Lane
from xobackup.web.requests import CommandLine
from xotest.site import wait_until

WISH = CommandLine(name="status", values={}, line="xobackup status", lane=Lane.LOOK)


@pytest.fixture
def hand() -> Hand:
    return Hand(progress=Progress(SystemClock()))


def taken(hand: Hand, *lines: object) -> Records:
    records = Records(hand=hand, teller=Teller())
    text = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines)
    commands._read_records(io.BytesIO(text), records)
    return records


def test_the_first_records_and_the_last_are_kept(hand: Hand) -> None:
    rows = [{"kind": "row", "number": number} for number in range(RECORDS_MAX + 100)]
    found = taken(hand, *rows)
    assert found.first == rows[:RECORDS_MAX] and list(found.last) == rows[-LAST_MAX:]
    assert found.more == 100
    whole = taken(hand, *rows[:RECORDS_MAX])
    assert whole.more == 0 and not whole.last


def test_long_records_take_no_more_than_their_share(hand: Hand) -> None:
    long, short = {"kind": "row", "text": "x" * (BYTES_MAX // 3)}, {"kind": "sum", "rows": 5}
    found = taken(hand, long, long, long, long, b"y" * (3 * BYTES_MAX) + b"\n", short)
    assert len(found.first) == 2 and list(found.last) == [short]
    assert found.more == 4, "one of them was not even read"


def test_events_and_progress_are_not_the_result(hand: Hand) -> None:
    event = RunStarted(run_id="r", verb="run", job="nightly", job_id="j", version="1", host="h", pid=1)
    meter = {
        "kind": "progress", "name": "web", "stage": "read", "done_bytes": 5, "total_bytes": 10, "finished": False,
    }  # fmt: skip
    lines = [
        as_record(event, 1.0),
        meter,
        {**meter, "done_bytes": 7},
        {"kind": "progress"},
        b"no json\n",
        b"[" * 9000,
    ]
    assert taken(hand, *lines).first == []
    assert [one.done_bytes for one in hand.progress.snapshots()] == [7]
    assert "job nightly" in hand.lines[0] and hand.lines[1] == "no json" and hand.lines[2].startswith("[[[")
    unknown = {"kind": "run-started", "at_s": 1.0, "from": "a version that says less"}
    assert taken(hand, unknown).first == [unknown]


def ended(hand: Hand, code: int, *lines: object, said: tuple[str, ...] = ()) -> Done:
    return commands._done(code, taken(hand, *lines), list(said), hand)


def test_how_it_ended(hand: Hand) -> None:
    assert ended(hand, 0).problem == ""
    error = {"kind": "error", "message": "a\nb", "hint": None}
    assert ended(hand, 3, error, said=("error: a", "error: b")).problem == "a\nb"
    framed = ("Usage: xobackup status", "", "Error", "Invalid value", "")
    assert ended(hand, 2, said=framed).problem == "Invalid value"
    killed = ended(hand, -9)
    assert "SIGKILL" in killed.problem and killed.exit_code == -9
    assert ended(hand, 99).problem
    hand.cancel.cancel("not now")
    assert ended(hand, 143, error).problem == "not now" and ended(hand, 0).problem == ""


DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"kind": "ready"}', flush=True)
print("deaf", file=sys.stderr, flush=True)
time.sleep(600)
"""


def test_who_does_not_listen_is_killed_in_the_end(
    hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    monkeypatch.setattr(commands.child, "__file__", str(tmp_path / "deaf.py"))
    monkeypatch.setattr(commands, "CLEAN_UP_S", 0.1)
    found: list[Done] = []
    thread = threading.Thread(target=lambda: found.append(carry_out(WISH, Configuration(), None, hand)))
    thread.start()
    wait_until(lambda: "deaf" in hand.lines)
    hand.cancel.cancel("enough")
    thread.join(60)
    (done,) = found
    assert done.exit_code == -signal.SIGKILL and done.problem == "enough" and done.records == [{"kind": "ready"}]


LOOK = """
import json, os
found = {name: os.environ.get(name) for name in ("NOTIFY_SOCKET", "XO_TOKEN", "CREDENTIALS_DIRECTORY")}
print(json.dumps({"kind": "saw", **found, "leads": os.getsid(0) == os.getpid()}))
"""


def test_what_a_command_gets_of_the_service(hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    monkeypatch.setattr(commands.child, "__file__", str(tmp_path / "look.py"))
    for name in ("NOTIFY_SOCKET", "XO_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(name, "x")
    (saw,) = carry_out(WISH, Configuration(), None, hand).records
    assert saw == {
        "kind": "saw", "NOTIFY_SOCKET": None, "XO_TOKEN": None, "CREDENTIALS_DIRECTORY": "x", "leads": True,
    }  # fmt: skip
    assert os.environ["XO_TOKEN"] == "x"
