"""Who may do what: logins, roles, tokens, and that nobody else's page can make a browser do anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from xobackup.clock import FakeClock
from xobackup.service.state import StateUnreadable
from xobackup.web.access import Role, Throttle
from xobackup.web.app import COOKIE, Door, make_app
from xobackup.web.sessions import IDLE_S, LONGEST_S, Sessions
from xobackup.web.tokens import make_token, read_tokens, revoke_token
from xotest.web import PASSWORD, PaperHouse, door_of


def login(client: TestClient, name: str, password: str = PASSWORD, **more: str) -> int:
    return client.post("/login", data={"name": name, "password": password, **more}).status_code


def csrf(client: TestClient) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/schedules").text)
    assert found
    return found[1]


def test_without_a_login_one_may_look_and_do_nothing(client: TestClient, house: PaperHouse) -> None:
    assert client.get("/").status_code == 200 and "Run now" not in client.get("/schedules").text
    assert client.post("/schedules/night/run").headers["location"].startswith("/login")
    answer = client.post("/api/v1/schedules/night/run")
    assert answer.status_code == 401 and answer.headers["content-type"] == "application/problem+json"
    assert client.get("/audit").status_code == 303 and client.get("/api/v1/audit").status_code == 401
    assert house.orders == []


def test_where_only_users_may_look_everything_else_leads_to_the_login(
    house: PaperHouse, tmp_path: Path, clock: FakeClock
) -> None:
    app = make_app(house, door_of(tmp_path, clock, open_to_look=False))
    with TestClient(app, follow_redirects=False) as client:
        for path in ("/", "/runs", "/remotes", "/schedules", "/problems", "/vms/x"):
            assert client.get(path).headers["location"].startswith("/login?next=%2F"), path
        for path in ("/api/v1/status", "/api/v1/runs", "/api/v1/live", "/metrics"):
            assert client.get(path).status_code == 401, path
        assert client.get("/healthz").text == "ok\n" and client.get("/readyz").status_code == 200
        assert client.get("/static/style.css").status_code == 200
        assert login(client, "vera", next="/runs?job=nightly") == 303
        assert client.get("/runs").status_code == 200


@pytest.mark.parametrize(("name", "looks", "runs", "audits"), [
    ("vera", True, False, False), ("oleg", True, True, False), ("anna", True, True, True),
])  # fmt: skip
def test_roles(client: TestClient, house: PaperHouse, name: str, looks: bool, runs: bool, audits: bool) -> None:
    assert login(client, name) == 303
    token = csrf(client) if runs else ""
    assert (client.get("/runs").status_code == 200) is looks
    answer = client.post("/schedules/night/run", data={"csrf": token})
    assert answer.status_code == (303 if runs else 403) and (("run", "night") in house.orders) is runs
    assert (client.get("/audit").status_code == 200) is audits


def test_every_deed_of_the_page_and_of_the_api(client: TestClient, house: PaperHouse) -> None:
    login(client, "oleg")
    token = csrf(client)
    for deed in ("pause", "resume", "run", "cancel"):
        assert client.post(f"/schedules/night/{deed}", data={"csrf": token}).headers["location"] == "/schedules"
    head = {"X-CSRF-Token": token}
    assert (
        client.post("/api/v1/schedules/night/pause", headers=head, json={"reason": "moves"}).json()["paused"]
        == "moves"
    )
    assert client.post("/api/v1/schedules/night/run", headers=head).status_code == 202
    assert [order[:2] for order in house.orders] == [
        (deed, "night") for deed in ("pause", "resume", "run", "cancel", "pause", "run")
    ]
    assert client.post("/api/v1/schedules/none/run", headers=head).status_code == 404
    assert client.post("/schedules/night/delete", data={"csrf": token}).status_code == 404


def test_another_sites_page_can_do_nothing_with_somebodys_cookie(client: TestClient, house: PaperHouse) -> None:
    login(client, "anna")
    for data in ({}, {"csrf": ""}, {"csrf": "guess"}, {"csrf": "\udcff".encode("utf-8", "replace").decode()}):
        assert client.post("/schedules/night/run", data=data).status_code == 403
    assert client.post("/api/v1/schedules/night/run").status_code == 403
    assert client.post("/logout").status_code == 403
    assert house.orders == []


def test_a_name_that_is_not_ours_is_refused(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8480", "localhost.evil.example", ""):
        assert client.get("/", headers={"host": host}).status_code == 421, host
    for host in ("127.0.0.1:8480", "[::1]:8480", "localhost", "testserver"):
        assert client.get("/", headers={"host": host}).status_code == 200, host


def test_the_cookie_is_for_us_alone(house: PaperHouse, tmp_path: Path, clock: FakeClock) -> None:
    app = make_app(house, door_of(tmp_path, clock, secure=True))
    with TestClient(app, follow_redirects=False, base_url="https://testserver") as client:
        answer = client.post("/login", data={"name": "anna", "password": PASSWORD})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie and "secure" in cookie and "path=/" in cookie
        assert answer.headers["strict-transport-security"] and answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        word = client.cookies[COOKIE]
        client.post("/logout", data={"csrf": csrf(client)})
        client.cookies.set(COOKIE, word)
        assert client.get("/audit").status_code == 303, "the word is worth nothing any more"


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\r\nX: y"]
)
def test_a_login_leads_to_our_pages_only(client: TestClient, target: str) -> None:
    answer = client.post("/login", data={"name": "anna", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/"


def test_guessing_is_slowed_down_and_written_down(client: TestClient, door: Door, clock: FakeClock) -> None:
    assert [login(client, "anna", "wrong") for _ in range(6)] == [401] * 5 + [429]
    assert login(client, "anna") == 429, "also with the right one"
    assert login(client, "oleg") == 429, "from this address"
    clock.advance(6)
    assert login(client, "anna", "wrong") == 401 and login(client, "anna") == 429
    clock.advance(11)
    assert login(client, "anna") == 303
    deeds = [(deed["who"], deed["deed"], deed["ok"]) for deed in door.audit.newest()]
    assert deeds[0] == ("anna", "login", True) and deeds.count(("anna", "login", False)) == 6
    assert PASSWORD not in str(door.audit.newest()) and "wrong" not in str(door.audit.newest())


def test_tokens_have_a_role_and_an_end(
    client: TestClient, tmp_path: Path, clock: FakeClock, house: PaperHouse
) -> None:
    word = make_token(tmp_path, "ci", Role.OPERATOR, now_s=clock.now_s(), ends_at=clock.now_s() + 60)
    looker = make_token(tmp_path, "prometheus", Role.VIEWER, now_s=clock.now_s(), ends_at=None)
    assert word not in (tmp_path / "web-tokens.json").read_text()
    assert (tmp_path / "web-tokens.json").stat().st_mode & 0o077 == 0
    run = "/api/v1/schedules/night/run"
    assert client.post(run, headers={"Authorization": f"Bearer {word}"}).status_code == 202, "no browser, no CSRF"
    assert client.post(run, headers={"Authorization": f"Bearer {looker}"}).status_code == 403
    assert client.get("/metrics", headers={"Authorization": f"Bearer {looker}"}).status_code == 200
    clock.advance(61)
    assert client.post(run, headers={"Authorization": f"Bearer {word}"}).status_code == 401
    assert revoke_token(tmp_path, "prometheus") and not revoke_token(tmp_path, "prometheus")
    assert client.get("/metrics", headers={"Authorization": f"Bearer {looker}"}).status_code == 401
    for scheme in ("Basic", "Bearer", "bearer", "Digest"):
        assert client.get("/api/v1/status", headers={"Authorization": f"{scheme} nonsense"}).status_code in (401, 429)
    assert len(house.orders) == 1


def test_damaged_tokens_let_nobody_in_and_a_name_is_used_once(client: TestClient, tmp_path: Path) -> None:
    make_token(tmp_path, "a", Role.ADMIN, now_s=0, ends_at=None)
    with pytest.raises(ValueError, match="already"):
        make_token(tmp_path, "a", Role.ADMIN, now_s=0, ends_at=None)
    (tmp_path / "web-tokens.json").write_text('[{"name": 1}]')
    with pytest.raises(StateUnreadable, match="make new tokens"):
        read_tokens(tmp_path)
    assert client.get("/api/v1/status", headers={"Authorization": "Bearer x"}).status_code == 503


def test_what_cannot_be_written_down_is_not_done(client: TestClient, house: PaperHouse, tmp_path: Path) -> None:
    login(client, "oleg")
    token = csrf(client)
    (tmp_path / "audit.jsonl").unlink()
    (tmp_path / "audit.jsonl").mkdir()
    assert client.post("/schedules/night/run", data={"csrf": token}).status_code == 503
    assert house.orders == []


def test_sessions_end_when_idle_and_at_last() -> None:
    clock = FakeClock()
    sessions = Sessions(clock.monotonic_s)
    word = sessions.begin("anna", Role.ADMIN)
    for _ in range(int(LONGEST_S // (IDLE_S - 1)) - 1):
        clock.advance(IDLE_S - 1)
        assert sessions.who(word) is not None
    clock.advance(IDLE_S + 1)
    assert sessions.who(word) is None
    word = sessions.begin("anna", Role.ADMIN)
    while clock.monotonic_s() and sessions.who(word) is not None:
        clock.advance(IDLE_S / 2)
    assert sessions.who(word) is None and sessions.who("") is None


def test_a_throttle_doubles_and_forgives() -> None:
    clock = FakeClock()
    throttle = Throttle(clock.monotonic_s, free=2, first_s=10, most_s=25)
    throttle.failed("x")
    assert throttle.wait_s("x") == 0
    waits = []
    for _ in range(4):
        throttle.failed("x")
        waits.append(throttle.wait_s("x", "y"))
    assert waits == [10, 20, 25, 25] and throttle.wait_s("y") == 0
    throttle.succeeded("x")
    assert throttle.wait_s("x") == 0
