"""What one may order on the pages and by the API: who may, what it says, what becomes of it, and nasty names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlencode

from starlette.testclient import TestClient

from xobackup.service.operations import Ending, State
from xotest.journals import DATABASE, WEB
from xotest.paper import PLAN, POINT, RESULTS
from xotest.web import PASSWORD, PaperHouse

NASTY = '"><script>alert(1)</script>\x1b[31m\n{{7*7}}' + "x" * 4096
CHOSEN = {"remote": "nas", "vm": WEB, "point": POINT}
FORMS = {
    "/points/pin": CHOSEN,
    "/points/unpin": CHOSEN,
    "/verify": {"remote": "nas", "what": "latest"},
    "/restore": {**CHOSEN, "pool": "main"},
    "/runs/run-2/retry": {},
    "/jobs/nightly/plan": {},
    "/dr/lyon/plan": {},
    "/dr/lyon/test": {},
}
ORDERS = {
    f"/api/v1/backups/{WEB}/points/{POINT}/pin": {"remote": "nas", "until": "2027-01-31"},
    f"/api/v1/backups/{WEB}/points/{POINT}/unpin": {"remote": "nas"},
    "/api/v1/verify": {"remote": "nas", "slice": "2%"},
    "/api/v1/restore-plans": {**CHOSEN, "pool": "main", "disk_srs": {"0": None}},
    "/api/v1/runs/run-2/retry": None,
    "/api/v1/jobs/nightly/plan": None,
    "/api/v1/dr/lyon/plan": None,
    "/api/v1/dr/lyon/test": None,
}


def log_in(client: TestClient, name: str = "oleg") -> str:
    assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
    assert found
    return found[1]


def ended(client: TestClient, house: PaperHouse, address: str) -> str:
    house.desk.wait(address.rsplit("/", 1)[1], 30)
    return client.get(address).text


def test_only_operators_order_and_only_from_our_own_pages(client: TestClient, house: PaperHouse) -> None:
    for path, data in FORMS.items():
        assert client.post(path, data=data).headers["location"].startswith("/login"), path
    for path, body in ORDERS.items():
        assert client.post(path, json=body).status_code == 401, path
    word = log_in(client, "vera")
    for path, data in FORMS.items():
        assert client.post(path, data={**data, "csrf": word}).status_code == 403, path
    assert "Restore</a>" not in client.get(f"/vms/{WEB}/points").text
    log_in(client)
    for path, data in FORMS.items():
        assert client.post(path, data={**data, "csrf": "guess"}).status_code == 403, path
    for path, body in ORDERS.items():
        assert client.post(path, json=body).status_code == 403, path
    assert house.desk.newest(10) == []


def test_every_order_of_the_pages_is_written_down_done_and_shown(
    client: TestClient, house: PaperHouse, tmp_path: Path
) -> None:
    word = log_in(client)
    for path, data in FORMS.items():
        answer = client.post(path, data={**data, "csrf": word})
        assert answer.status_code == 303, answer.text
        address = answer.headers["location"]
        assert address.startswith(("/operations/", f"/vms/{WEB}/points"))
        if address.startswith("/operations/"):
            assert "done" in ended(client, house, address)
    kinds = [one.kind for one in house.desk.newest(20)][::-1]
    assert kinds == ["pin", "unpin", "verify", "restore-plan", "retry", "plan", "dr-plan", "dr-test"]
    deeds = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [one["deed"] for one in deeds if one["deed"] != "login"] == kinds, "before it was done"
    page = client.get("/operations").text
    assert page.count("oleg") >= 8 and "2 VMs" not in page and "1 VM of job nightly" in page
    assert house.desk.newest(20)[3].asked["vms"] == (DATABASE,), "those that failed"


def test_a_restore_is_what_was_agreed_to_and_only_once(client: TestClient, house: PaperHouse) -> None:
    word = log_in(client)
    wizard = client.get("/restore?" + urlencode(CHOSEN)).text
    assert "Go on" in wizard and "Show the plan" not in wizard, "which pool comes first"
    wizard = client.get("/restore?" + urlencode({**CHOSEN, "pool": "main"})).text
    for field in ("disk.0", "nic.0", "no_memory", "new_macs", "sr", "start"):
        assert f'name="{field}"' in wizard, field
    assert "4.0 GiB free" in wizard
    form = {**CHOSEN, "pool": "main", "disk.0": "-", "nic.0": "net-1", "nic.1": "", "start": "yes", "csrf": word}
    address = client.post("/restore", data=form).headers["location"]
    page = ended(client, house, address)
    for said in ("web again", "4.0 GiB are free", "no snapshot of it is left", "A NIC on LAN", "4096 MiB are free"):
        assert said in page, said
    plan = house.desk.newest(1)[0]
    assert plan.asked["disk_srs"] == {"0": None} and plan.asked["networks"] == {"0": "net-1"} and plan.asked["start"]
    assert [one.kind for one in house.desk.newest(9)] == ["restore-plan"], "nothing was restored by looking"

    address = client.post(f"/operations/{plan.id}/restore", data={"csrf": word}).headers["location"]
    assert "was created" in ended(client, house, address)
    restore = house.desk.newest(1)[0]
    assert restore.asked["agreed"] == PLAN and restore.asked["wanted"]["disk_srs"] == {"0": None}
    again = client.post(f"/operations/{plan.id}/restore", data={"csrf": word})
    assert again.status_code == 409 and "carried out already" in again.text
    assert "no plan of a restore" in client.post(f"/operations/{restore.id}/restore", data={"csrf": word}).text


def test_what_goes_on_is_shown_can_be_cancelled_and_what_fails_says_what_to_do(
    client: TestClient, house: PaperHouse
) -> None:
    word = log_in(client)
    house.work.hold = True
    address = client.post("/verify", data={**FORMS["/verify"], "csrf": word}).headers["location"]
    once_more = client.post("/verify", data={**FORMS["/verify"], "csrf": word})
    assert once_more.status_code == 409 and "ordered already, by oleg" in once_more.text
    assert "http-equiv" in client.get(address).text, "without scripts it loads itself again"
    client.post(f"{address}/cancel", data={"csrf": word})
    page = ended(client, house, address)
    assert "cancelled by oleg" in page and "data-over" in page and "http-equiv" not in page
    house.work.hold = False
    damage = {**RESULTS["verify"], "damaged": True, "problems": [
        {"severity": "damage", "path": NASTY, "message": NASTY, "points": []},
    ]}  # fmt: skip
    failed = Ending(state=State.FAILED, result=damage, problem="1 finding of damage", hint="repair it")
    house.work.endings["verify"] = failed
    address = client.post("/verify", data={**FORMS["/verify"], "csrf": word}).headers["location"]
    page = ended(client, house, address)
    assert "1 finding of damage" in page and "What to do: repair it" in page and "<script>alert" not in page


def test_orders_by_the_api(client: TestClient, house: PaperHouse) -> None:
    head = {"X-CSRF-Token": log_in(client)}
    for path, body in ORDERS.items():
        answer = client.post(path, json=body, headers=head)
        assert answer.status_code == 202, answer.text
        made = answer.json()
        assert answer.headers["location"] == f"/api/v1/operations/{made['id']}"
        house.desk.wait(made["id"], 30)
        found = client.get(answer.headers["location"]).json()
        assert found["state"] == "done" and found["result"] == RESULTS[found["kind"]], path
    plan = next(
        one["id"] for one in client.get("/api/v1/operations").json()["operations"] if "restore" in one["kind"]
    )
    made = client.post("/api/v1/restores", json={"plan": plan}, headers=head).json()
    assert house.desk.wait(made["id"], 30).state is State.DONE
    assert client.post(f"/api/v1/operations/{made['id']}/cancel", headers=head).status_code == 409
    listed = client.get("/api/v1/backups?remote=nas").json()["remotes"]
    assert [(one["remote"], one["total"]) for one in listed] == [("nas", 1)]
    points = client.get(f"/api/v1/backups/{WEB}?again=true").json()["remotes"]
    assert (
        points[0]["points"][1]["pinned"] and points[1]["looked"]["pending"] and house.backups.asked == [(WEB, True)]
    )
    assert client.get("/api/v1/replicas").json()["targets"][0]["replicas"][0]["lag_s"] == 900
    assert client.get("/api/v1/dr").json()["plans"][0]["tests"][0]["ok"]
    assert client.get("/api/v1/remotes").json()["remotes"][0]["depth"]["backlog"] == 4


REFUSED: list[tuple[str, dict[str, object] | None, int, str]] = [
    ("/verify", {"remote": "none"}, 404, "known: gone, nas"),
    ("/verify", {"remote": "nas", "slice": "a lot"}, 422, "2% or 3/30"),
    ("/verify", {"remote": "nas", "point": "x"}, 422, "name the VM too"),
    ("/verify", {"remote": "nas", "lastest": True}, 422, "lastest"),
    (f"/backups/{WEB}/points/x/pin", {"remote": "nas", "until": "someday"}, 422, "2027-01-31"),
    ("/restore-plans", {**CHOSEN, "pool": "mars"}, 404, "known: main, second"),
    ("/restores", {"plan": "none"}, 404, "no operation"),
    ("/runs/none/retry", None, 404, "no run"),
    ("/runs/run-1/retry", None, 409, "no VM failed"),
    ("/jobs/none/plan", None, 404, "known: nightly"),
    ("/dr/none/test", None, 404, "known: lyon"),
]  # fmt: skip


def test_what_cannot_be_is_refused_at_once(client: TestClient, house: PaperHouse) -> None:
    head = {"X-CSRF-Token": log_in(client)}
    for path, body, code, told in REFUSED:
        answer = client.post(f"/api/v1{path}", json=body, headers=head)
        assert answer.status_code == code and told in answer.text, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert house.desk.newest(5) == []


def test_hostile_names_are_only_text_on_the_pages_of_orders(client: TestClient, house: PaperHouse) -> None:
    word = log_in(client)
    house.backups.name = NASTY
    for kind in ("restore-plan", "dr-plan", "dr-test"):
        text = json.dumps(RESULTS[kind]).replace('"web', f'"{json.dumps(NASTY)[1:-1]}')
        house.work.endings[kind] = Ending(state=State.DONE, result=json.loads(text), problem=NASTY[:200])
    paths = [f"/vms/{WEB}/points", "/backups", "/replicas", "/dr", "/operations"]
    paths.append("/restore?" + urlencode({**CHOSEN, "pool": "main"}))
    for path in ("/restore", "/dr/lyon/plan", "/dr/lyon/test", "/verify"):
        data = {**FORMS[path], "vm_name": NASTY, "name": NASTY[:400], "csrf": word}
        paths.append(client.post(path, data=data).headers["location"])
    for path in paths:
        html = ended(client, house, path) if "/operations/" in path else client.get(path).text
        assert "<script>alert" not in html and "\x1b" not in html and "{{7*7}}" in html, path
        assert "x" * 1001 not in html, path
    # names of anything come back from forms as they are, and harm nobody
    assert client.post("/points/<b>", data={"csrf": word}).status_code == 404
    assert client.get("/vms/<script>/points").status_code == 404
