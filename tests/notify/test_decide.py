"""What is told, to whom, and when again. Pure."""

from __future__ import annotations

import pytest

from xobackup.history.standing import Objective, overview
from xobackup.notify.decide import LISTED_MAX, REMEMBERED_S, Known, decide, wants
from xobackup.notify.troubles import Kind, Seen, Trouble

HOUR = 3600.0
DAY = 24 * HOUR


def trouble(key: str, kind: Kind = Kind.FAILURE, job: str = "nightly") -> Trouble:
    return Trouble(key=key, kind=kind, job=job, about=key, text="it failed")


def told(
    troubles: list[Trouble], known: dict[str, Known], now: float, judged: str = "ab"
) -> tuple[str, dict[str, Known]]:
    message, after = decide(Seen(troubles, set(judged)), known, now=now, repeat_s=DAY)
    return (message.title if message else ""), after


def test_a_trouble_is_told_once_then_again_after_a_while_and_that_it_is_over() -> None:
    title, known = told([trouble("a")], {}, 0)
    assert title == "xobackup: a: it failed"
    assert told([trouble("a")], known, HOUR)[0] == ""
    title, known = told([trouble("a"), trouble("b")], known, 2 * HOUR)
    assert title == "xobackup: b: it failed"
    title, known = told([trouble("a"), trouble("b")], known, DAY)
    assert title == "xobackup: 1 still wrong" and known["a"].since == 0 and known["a"].told == DAY
    title, known = told([trouble("b")], known, DAY + HOUR)
    assert title == "xobackup: 1 well again, 1 still wrong"
    title, known = told([], known, DAY + 2 * HOUR)
    assert title == "xobackup: all is well again" and known == {}
    assert told([], known, 9 * DAY)[0] == ""


def test_what_nobody_looked_at_is_not_called_well() -> None:
    _, known = told([trouble("a"), trouble("b")], {}, 0)
    assert told([], known, HOUR, judged="") == ("", known)
    title, known = told([], known, HOUR, judged="b")
    assert title == "xobackup: 1 well again" and set(known) == {"a"}
    assert told([trouble("a")], known, 2 * HOUR)[0] == "", "it never stopped: that is nothing new"
    assert told([], known, REMEMBERED_S + HOUR, judged="") == ("", {}), "not for ever"


def test_one_message_holds_all_and_is_bounded() -> None:
    seen = Seen([trouble(f"vm-{n}") for n in range(500)], {f"vm-{n}" for n in range(500)})
    message, known = decide(seen, {}, now=0, repeat_s=DAY)
    assert message is not None and message.title == "xobackup: 500 new troubles"
    assert len(message.body.splitlines()) == 41 and message.body.endswith("and 460 more: xobackup status")
    data = message.as_data()
    assert len(data["new"]) == LISTED_MAX and data["counts"] == {"new": 500, "again": 0, "over": 0}
    assert not message.good and len(known) == 500


def test_a_channel_hears_what_it_wants() -> None:
    troubles = [trouble("a"), trouble("b", Kind.RPO), trouble("c", job="other"), trouble("d", Kind.SERVICE, job="")]
    assert [one.key for one in troubles if wants(one, {Kind.RPO}, ())] == ["b"]
    assert [one.key for one in troubles if wants(one, (), {"other"})] == ["c", "d"], "the service concerns every job"
    assert all(wants(one, (), ()) for one in troubles)


def row(name: str, **more: object) -> dict[str, object]:
    usual = {
        "uuid": name, "name": name, "kind": "vm", "pool": "p", "job": "nightly", "run_id": "r", "began_at": 0.0,
        "ended_at": 1.0, "outcome": "ok", "reason": "", "mode": "delta", "good_at": 0.0, "good_run_id": "r",
        "failures": 0,
    }  # fmt: skip
    return {**usual, **more}


def test_troubles_come_from_the_history() -> None:
    rows = [
        row("good"),
        row("ill", outcome="failed", reason="full", failures=3),
        row("tried again", outcome="running", reason="full", failures=1),
        row("late", good_at=-2 * DAY),
        row("evil\r\nBcc: x@y", outcome="failed", reason="a\nb", failures=1),
    ]
    found = overview(rows, {"nightly": Objective(rpo_s=DAY, why="")}, HOUR)
    seen = Seen()
    seen.vms(found)
    seen.runs([{"job": "nightly", "outcome": "failed", "failed": 0, "reason": "the pool does not answer"}])
    seen.service("configuration", "the configuration is not followed")
    seen.service("history", "")
    told = {(one.kind.value, one.about): one.text for one in seen.troubles}
    assert told["failure", "ill"] == "its backup failed (3 times in a row): full"
    assert told["rpo", "late"].startswith("its newest good backup is too old: it is 2 d 1 h old, 24 h are allowed")
    assert told["failure", "evil Bcc: x@y"] == "its backup failed: a b"
    assert told["failure", "job nightly"] == "its run failed: the pool does not answer"
    assert told["failure", "tried again"] == "its backup failed: full", "until one succeeds"
    assert told["service", "xobackup"] == "the configuration is not followed" and len(told) == 6
    assert seen.judged >= {"failure nightly good", "rpo nightly good", "run nightly", "service history"}


def run(outcome: str, failed: int = 0) -> dict[str, object]:
    return {"job": "nightly", "outcome": outcome, "failed": failed, "reason": "no pool"}


@pytest.mark.parametrize(
    ("outcomes", "wrong", "judged"),
    [
        (["running", "failed"], True, True),
        (["cancelled", "skipped", "interrupted"], True, True),
        (["running", "ok", "failed"], False, True),
        (["running"], False, False),
        ([], False, False),
    ],
)
def test_a_run_that_goes_on_ends_no_trouble_of_its_job(outcomes: list[str], wrong: bool, judged: bool) -> None:
    seen = Seen()
    seen.runs([run(outcome) for outcome in outcomes])
    assert (bool(seen.troubles), seen.judged == {"run nightly"}) == (wrong, judged)


def test_a_run_whose_vms_failed_is_no_trouble_beside_theirs() -> None:
    seen = Seen()
    seen.runs([run("failed", failed=2)])
    assert not seen.troubles and seen.judged == {"run nightly"}
