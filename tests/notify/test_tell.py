"""Messages arrive, signed; what could not be sent is sent later; a crash tells twice rather than never."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.notify import channels
from xobackup.notify.channels import Channel, NotSent, send
from xobackup.notify.decide import Message
from xobackup.notify.tell import tell_all
from xobackup.notify.told import NAME, one_at_a_time, read_told
from xobackup.notify.troubles import Kind, Seen, Trouble
from xotest.listener import Listener, listening

WRONG = b"""{"hook": {"failure nightly web":
    {"since": 1, "told": "x", "kind": "rpo", "job": "j", "about": "a", "text": "t"}}}"""
TROUBLE = Trouble(key="failure nightly web", kind=Kind.FAILURE, job="nightly", about="web", text="it is full")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


def tell(channel: Channel, directory: Path, *troubles: Trouble, now: float = 0.0) -> tuple[int, list[str]]:
    complaints: list[str] = []
    return tell_all([channel], seen(*troubles), directory, now=now, complain=complaints.append), complaints


def seen(*troubles: Trouble) -> Seen:
    return Seen(list(troubles), {TROUBLE.key})


def test_a_webhook_gets_json_that_it_can_check(listener: Listener, tmp_path: Path) -> None:
    channel = Channel(name="hook", webhook=f"{listener.url}/x", secret="between us")
    assert tell(channel, tmp_path, TROUBLE, now=1000.5) == (1, [])
    (request,) = listener.came
    moment, digest = (part.partition("=")[2] for part in request.headers["x-xobackup-signature"].split(","))
    expected = hmac.new(b"between us", moment.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert (moment, digest) == ("1000", expected)
    data = json.loads(request.body)
    assert data["new"] == [{"kind": "failure", "job": "nightly", "about": "web", "text": "it is full"}]
    assert data["title"] == "xobackup: web: it is full" and data["open"] == 1 and not data["good"]


def test_what_could_not_be_sent_is_sent_later(listener: Listener, tmp_path: Path) -> None:
    channel = Channel(name="hook", webhook=listener.url)
    listener.status = 500
    sent, complaints = tell(channel, tmp_path, TROUBLE)
    assert sent == 0 and complaints == ["notify.hook: not told: it answered 500; it is tried again"]
    listener.status = 200
    assert tell(channel, tmp_path, TROUBLE) == (1, [])
    assert tell(channel, tmp_path, TROUBLE) == (0, []) and len(listener.came) == 2
    assert tell(channel, tmp_path) == (1, []) and json.loads(listener.came[-1].body)["good"]


def test_a_channel_that_is_away_keeps_no_other_from_it(listener: Listener, tmp_path: Path) -> None:
    away = Channel(name="away", webhook="http://127.0.0.1:9/very-secret")
    complaints: list[str] = []
    good = Channel(name="good", webhook=listener.url)
    assert tell_all([away, good], seen(TROUBLE), tmp_path, now=0, complain=complaints.append) == 1
    assert len(complaints) == 1 and "very-secret" not in complaints[0] and set(read_told(tmp_path)) == {"good"}


def test_a_check_hears_always_good_or_not(listener: Listener, tmp_path: Path) -> None:
    channel = Channel(name="hc", healthchecks=f"{listener.url}/ping/uuid")
    for troubles in ([], [], [TROUBLE], [TROUBLE], []):
        tell(channel, tmp_path, *troubles)
    assert [request.path for request in listener.came] == [
        "/ping/uuid", "/ping/uuid", "/ping/uuid/fail", "/ping/uuid/fail", "/ping/uuid",
    ]  # fmt: skip
    assert b"it is full" in listener.came[2].body


def test_whoever_tries_a_check_does_not_call_it_well(listener: Listener) -> None:
    send(
        Channel(name="hc", healthchecks=f"{listener.url}/ping/uuid/"),
        Message(title="", new=(), again=(), over=(), open=0),
        now=0,
        trial=True,
    )
    assert [request.path for request in listener.came] == ["/ping/uuid/log"]


def test_a_channel_that_hears_of_less_than_before_is_not_told_that_it_is_over(
    listener: Listener, tmp_path: Path
) -> None:
    tell(Channel(name="hook", webhook=listener.url), tmp_path, TROUBLE)
    narrow = Channel(name="hook", webhook=listener.url, kinds={Kind.RPO})
    assert tell(narrow, tmp_path, TROUBLE) == (0, []) and read_told(tmp_path)["hook"] == {}


def test_a_server_that_does_not_come_to_its_end_holds_up_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    monkeypatch.setattr(channels, "WHOLE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(channels, "_post", lambda *_: held.wait(60))
    sent, complaints = tell(Channel(name="hook", webhook="http://x"), tmp_path, TROUBLE)
    held.set()
    assert sent == 0 and complaints == ["notify.hook: not told: no answer within 0 s; it is tried again"]


def test_two_processes_tell_one_after_the_other(listener: Listener, tmp_path: Path) -> None:
    channel = Channel(name="hook", webhook=listener.url)
    with one_at_a_time(tmp_path):
        second = threading.Thread(target=tell, args=(channel, tmp_path, TROUBLE))
        second.start()
        second.join(0.3)
        assert second.is_alive() and not listener.came
    second.join(30)
    assert tell(channel, tmp_path, TROUBLE) == (0, []) and len(listener.came) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports
def test_apprise(listener: Listener, tmp_path: Path) -> None:
    address = listener.url.replace("http://", "json://")
    assert tell(Channel(name="a", apprise=address), tmp_path, TROUBLE) == (1, [])
    assert "it is full" in json.loads(listener.came[0].body)["message"]
    with pytest.raises(NotSent, match="does not know"):
        send(Channel(name="b", apprise="nonsense://x"), Message(title="t", new=(), again=(), over=(), open=0), now=0)
    listener.status = 500
    assert tell(Channel(name="c", apprise=address), tmp_path, TROUBLE)[0] == 0


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"hook": {"x": 1}}', b"[]", b'{"hook": {"x": {"since": 1}}}', WRONG]
)
def test_what_was_told_can_be_lost_then_it_is_told_again(content: bytes, listener: Listener, tmp_path: Path) -> None:
    channel = Channel(name="hook", webhook=listener.url)
    tell(channel, tmp_path, TROUBLE)
    (tmp_path / NAME).write_bytes(content)
    assert tell(channel, tmp_path, TROUBLE) == (1, [])
