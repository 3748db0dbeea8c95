"""The command line by the API, on paper: that all of it is decided about, who may, how its line is made and looks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from xobackup.cli.main import app, program
from xobackup.cli.serving import catalogue as module
from xobackup.cli.serving.catalogue import catalogue, undecided
from xobackup.cli.serving.decisions import EXCUSED, RULES
from xobackup.service.operations import Ending, Lane, State
from xobackup.web.access import Role
from xobackup.web.commands import FILES, Command, Kind, LeftOut
from xotest.web import PASSWORD, PaperHouse

DOCS = Path(__file__).resolve().parents[2] / "docs" / "web.md"


def commands_of(command: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Every command, asked another way than the catalogue does."""
    if not hasattr(command, "commands"):
        return [" ".join(path)]
    return [name for key, one in command.commands.items() for name in commands_of(one, (*path, key))]


def test_every_command_and_option_is_decided_about() -> None:
    assert undecided() == []
    known = catalogue()
    assert sorted([*known.commands, *(one.name for one in known.left_out)]) == sorted(commands_of(program()))
    for command in known.commands.values():
        positional = [one for one in command.parameters if not one.option]
        needed = [one.required for one in positional]
        assert needed == sorted(needed, reverse=True), "what may be missing comes last"
        assert not any(one.many for one in positional[:-1]), command.name
        assert "--json" in command.fixed, f"{command.name}: its records are the result"
    given = {one.name for command in known.commands.values() for one in command.parameters}
    assert not {"config", "json", "env", "recovery", "command"} & given


def test_what_nobody_decided_about_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {name: rule for name, rule in RULES.items() if name != "clean"}
    monkeypatch.setattr(module, "RULES", {**rules, "gone": RULES["plan"]})
    monkeypatch.setattr(module, "TEXTS", frozenset({"vm"}))
    module.catalogue.cache_clear()
    try:
        told = undecided()
        assert {"clean", "gone: there is no such command", "restore vm: sr"} <= set(told)
        assert "restore vm: vm" not in told and "clean" not in catalogue().commands
        assert "sr" not in {one.name for one in catalogue().commands["restore vm"].parameters}
    finally:
        module.catalogue.cache_clear()


OWN: Any = typer.main.get_command(app)
"""Of this test's own: what is parsed without the program around it would be remembered."""
VALUES = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=30) | st.sampled_from(
    ["-", "--", "--yes", "-h", "--help", "--json", "=", "", " ", "'", "@file", "$(id)", "*"]
)


@settings(max_examples=150, deadline=None)
@given(vm=VALUES, point=VALUES, networks=st.lists(VALUES, max_size=3), name=VALUES, memory=st.booleans())
def test_a_value_stays_a_value(vm: str, point: str, networks: list[str], name: str, memory: bool) -> None:
    values = {
        "vm": vm, "point": point, "remote": "nas", "pool": name, "network": networks, "memory": memory,
        "start": False,
    }  # fmt: skip
    words = catalogue().commands["restore vm"].arguments(values)
    parsed: Any = OWN
    for word in ("restore", "vm"):
        parsed = parsed.commands[word]
        assert words.pop(0) == word
    found = parsed.make_context("vm", words).params
    assert (found["vm"], found["point"], found["pool"], found["memory"]) == (vm, point, name, memory)
    assert (found["network"] or []) == networks and found["start"] is False and found["dry_run"] is False


def body_for(command: Command, *, deed: bool = False, all_of_it: bool = False) -> dict[str, Any]:
    """What it must be given; for a ``deed`` what takes an admin too; or everything."""
    samples: dict[Kind, Any] = {
        Kind.TEXT: "x", Kind.REMOTE: "nas", Kind.INTEGER: 7, Kind.NUMBER: 7.5, Kind.SWITCH: True,
        Kind.FILE_READ: "file", Kind.FILE_WRITTEN: "file",
    }  # fmt: skip
    body: dict[str, Any] = {}
    for one in command.parameters:
        if one.required or all_of_it or (deed and one.admin):
            sample = one.choices[0] if one.choices else samples[one.kind]
            body[one.name] = [sample] if one.many else sample
    return body


@pytest.mark.parametrize("command", catalogue().commands.values(), ids=lambda one: one.name)
def test_the_command_line_takes_every_line(command: Command) -> None:
    values = body_for(command, all_of_it=True)
    words, line = command.name.split(), command.arguments(values)
    found: Any = OWN
    for word in words:
        found = found.commands[word]
    fixed = [one for one in command.fixed if one != "config"]
    taken = found.make_context(words[-1], [*fixed, *line[len(words) :]]).params
    left_out = {one.name for one in command.left_out}
    given = [name for name, value in taken.items() if value and name not in left_out]
    assert len(given) == len(values) + len(fixed), taken


def log_in(client: TestClient, name: str) -> dict[str, str]:
    assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
    assert found
    return {"X-CSRF-Token": found[1]}


def orders(client: TestClient, house: PaperHouse, head: dict[str, str], *, deed: bool = False) -> dict[str, int]:
    """What is answered to each, by command; what was taken has ended."""
    found = {}
    for command in catalogue().commands.values():
        body = body_for(command, deed=deed)
        answer = client.post(f"/api/v1/commands/{command.path}", json=body, headers=head)
        found[command.name] = answer.status_code
        if answer.status_code == 202:
            house.desk.wait(answer.json()["id"], 30)
    return found


ADMINS = {
    "import-from-xo", "support-bundle", "immutability apply", "metadata restore", "remote accept",
    "remote encryption init", "remote key add", "remote key remove", "remote key rotate", "seed import",
    "web token list", "web token revoke",
}  # fmt: skip
DEEDS = {
    "repair": "apply", "mirror": "keep", "migrate": "yes", "clean": "apply", "backups delete": "yes",
    "dr failover": "yes", "dr failback": "yes", "metadata delete": "yes", "metadata clean": "apply",
    "restore in-place": "yes", "restore disk": "vdi",
}  # fmt: skip
"""Who deletes, replaces or switches over is an admin: here once more, so that it is not changed unnoticed."""


def test_who_may(client: TestClient, house: PaperHouse) -> None:
    assert set(orders(client, house, {}).values()) == {401}
    assert set(orders(client, house, log_in(client, "vera")).values()) == {403}
    assert client.get("/api/v1/commands").status_code == 200
    assert house.desk.newest(10) == []
    head = log_in(client, "oleg")
    plain, deeds = orders(client, house, head), orders(client, house, head, deed=True)
    assert {name for name, code in plain.items() if code == 403} == ADMINS
    assert {name for name, code in deeds.items() if code == 403} == ADMINS | set(DEEDS)
    for name, key in DEEDS.items():
        assert [one.name for one in catalogue().commands[name].parameters if one.admin] == [key]
    head = log_in(client, "anna")
    for name, code in orders(client, house, head, deed=True).items():
        files = any(one.required and one.kind in FILES for one in catalogue().commands[name].parameters)
        assert code == (422 if files else 202), name


def test_a_look_becomes_work_only_with_what_does_it() -> None:
    failover = catalogue().commands["dr failover"]
    assert failover.lane_for({"name": "x", "yes": False}) is Lane.LOOK
    assert failover.lane_for({"name": "x", "yes": True}) is Lane.WORK
    assert failover.role_for({"name": "x", "yes": False}) is Role.OPERATOR
    assert failover.arguments({"name": "-x", "yes": False}) == ["dr", "failover", "--", "-x"]
    assert catalogue().commands["restore vm"].line({"vm": "my vm", "memory": False}) == (
        "xobackup restore vm --no-memory -- 'my vm'"
    )


def test_files_are_refused_without_a_directory_for_them(client: TestClient) -> None:
    head = log_in(client, "anna")
    body = {"vm": "web", "remote": "nas", "disk": "0", "output": "x.raw"}
    refused = client.post("/api/v1/commands/restore/disk", json=body, headers=head)
    assert refused.status_code == 422 and "[web] exchange" in refused.json()["hint"], refused.text
    refused = client.post("/api/v1/commands/doctor", json={"verbose": True}, headers=head)
    assert refused.status_code == 422 and "verbose" in refused.json()["detail"]


def test_it_is_written_down_and_shown_as_text(client: TestClient, house: PaperHouse, tmp_path: Path) -> None:
    nasty = '"><script>alert(1)</script>{{7*7}}'
    result = {
        "exit_code": 3, "meaning": "a part failed", "left_out": 7, "last": [{"kind": nasty, "text": "\x1b[31mred"}],
        "records": [{"kind": "row", "name": nasty, "number": 1.5}, ["no", "object"], "text", None],
    }  # fmt: skip
    house.work.endings["command"] = Ending(state=State.FAILED, result=result, problem=nasty)
    head = log_in(client, "oleg")
    made = client.post("/api/v1/commands/history/vm", json={"name": nasty, "number": 5}, headers=head)
    assert made.status_code == 202 and made.headers["location"] == f"/api/v1/operations/{made.json()['id']}"
    house.desk.wait(made.json()["id"], 30)
    page = client.get(f"/operations/{made.json()['id']}").text
    assert "<script>alert" not in page and "\x1b" not in page and "49" not in page.split("<h1")[1].split("</h1>")[0]
    for said in ("Exit code 3: a part failed.", "7 records more", "&#34;number&#34;: 1.5", "history vm --number=5"):
        assert said in page, said
    assert "Command" in client.get("/operations").text
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert lines[-1]["deed"] == "command" and lines[-1]["who"] == "oleg"
    assert lines[-1]["about"] == made.json()["about"] and nasty in lines[-1]["about"]


def row(command: Command) -> str:
    """Of the table in docs/web.md."""
    deeds = ", ".join(f"`{one.name}`" for one in command.parameters if one.admin)
    role = command.role.name.lower() + (f"; admin with {deeds}" if deeds else "")
    files = ", ".join(f"`{one.name}`" for one in command.parameters if one.kind in FILES)
    return f"| `{command.name}` | {role} | {files} | {'; '.join(reason(one) for one in command.left_out)} |"


def reason(one: LeftOut) -> str:
    return f"`{one.name}`: {one.why}"


def test_the_tables_of_the_documentation_are_those_of_the_program() -> None:
    text = DOCS.read_text()
    rows = [row(one) for one in catalogue().commands.values()]
    assert [line for line in text.splitlines() if line in rows] == rows, "\n".join(rows)
    excuses = [f"| `{one.name}` | {one.why} |" for one in catalogue().left_out if one.name != "demo-merge-and-die"]
    assert [line for line in text.splitlines() if line in excuses] == excuses, "\n".join(excuses)
    assert set(EXCUSED) == {one.name for one in catalogue().left_out}
