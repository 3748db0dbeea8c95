"""Requests of hooks: what is sent, what counts as an answer, and that nobody is waited for too long."""

import threading
from pathlib import Path

import pytest

from xobackup.engine.cancel import CancelToken
from xobackup.engine.hooks.request import Request, send, unverified
from xotest.certificates import make_certificate
from xotest.hook_server import HookServer, hook_server


def post(server: HookServer, path: str = "/hook?x=1", **fields: object) -> Request:
    return Request(
        **{"method": "POST", "url": server.origin + path, "headers": {"X-Token": "t"}, "body": b"{}", **fields}
    )  # type: ignore[arg-type]


def test_a_request_is_sent_as_told() -> None:
    with hook_server() as server:
        assert send(post(server), timeout_s=20, cancel=None) == ""
        (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/hook?x=1", b"{}") and asked.headers["X-Token"] == "t"


@pytest.mark.parametrize("status", [404, 500, 302])
def test_only_success_is_success(status: int) -> None:
    with hook_server() as server:
        server.status, server.said, server.location = status, b"no\x1b[1m such\nthing", server.origin + "/elsewhere"
        assert send(post(server), timeout_s=20, cancel=None).endswith("no [1m such | thing")
        assert len(server.asked) == 1, "a redirect is not followed"


def test_no_answer_is_not_waited_for_longer_than_allowed() -> None:
    with hook_server() as server:
        server.silent = True
        assert send(post(server), timeout_s=0.3, cancel=None) in (
            "had no whole answer within 0.3 s",
            "failed: timed out",
        )


def test_stopping_the_run_cuts_it_off() -> None:
    cancel, told = CancelToken(), []
    with hook_server() as server:
        server.silent = True
        thread = threading.Thread(target=lambda: told.append(send(post(server), timeout_s=30, cancel=cancel)))
        thread.start()
        assert server.reached.wait(20)
        cancel.cancel("enough")
        thread.join(20)
    assert told == ["was cut off because the run stops (enough)"]
    assert send(post(server), timeout_s=30, cancel=cancel) == "was not sent because the run stops (enough)"


def test_nobody_there_is_told() -> None:
    with hook_server() as server:
        pass
    assert send(post(server), timeout_s=20, cancel=None).startswith("failed: ")


def test_certificates_are_verified_unless_told_otherwise(tmp_path: Path) -> None:
    with hook_server(make_certificate(tmp_path)) as server:
        assert "certificate verify failed" in send(post(server), timeout_s=20, cancel=None)
        assert server.asked == []
        assert send(post(server, tls=unverified()), timeout_s=20, cancel=None) == ""


@pytest.mark.parametrize(
    "url", ["ftp://x/", "https://[::1", "http://h:99999/", "http://127.0.0.1:1/\n", "http://[x]/"]
)
def test_any_url_gives_a_sentence(url: str) -> None:
    assert send(Request(method="GET", url=url, headers={}), timeout_s=5, cancel=None)


def test_a_header_that_would_smuggle_another_is_refused() -> None:
    with hook_server() as server:
        told = send(post(server, headers={"X-Token": "a\r\nX-Other: b"}), timeout_s=20, cancel=None)
    assert told.startswith("failed: ") and server.asked == []
