"""The pages: what one asks for, put into a template. Forms lead back to the page they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from xobackup.history import ask
from xobackup.history.standing import Standing, State
from xobackup.web import charts, shown
from xobackup.web.access import Role
from xobackup.web.app import COOKIE, TITLES, Door, address_of, may_change, must, who_asks
from xobackup.web.house import House, Refused
from xobackup.web.sessions import LONGEST_S

router = APIRouter(include_in_schema=False)
VMS_PER_PAGE = 100
RUNS_PER_PAGE = 50
DAY_S = 86_400
DAYS_SHOWN = 30

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(
    size=shown.size,
    length=shown.length,
    exact=shown.exact,
    tone=shown.tone,
    line=shown.line,
    path=shown.path,
    length_of=len,
)


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


def _page(request: Request, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A template with what every page needs."""
    zone = _door(request).settings.zone
    try:
        who = who_asks(request)
    except Refused:
        who = None
    common = {
        "who": who,
        "may_run": who is not None and who.role >= Role.OPERATOR,
        "is_admin": who is not None and who.role >= Role.ADMIN,
        "csrf": who.csrf if who else "",
        "here": request.url.path,
        "version": _house(request).version,
        "now_s": _house(request).now_s(),
        "moment": lambda at: shown.moment(at, zone),
    }
    text = _templates.get_template(template).render(**{**common, **values})
    return HTMLResponse(text, status_code=status)


def error_page(request: Request, error: Refused) -> HTMLResponse:
    """An error for people."""
    return _page(request, "error.html", status=error.status, title=TITLES.get(error.status, "Error"), error=error)


@router.get("/", response_class=HTMLResponse)
def overview(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[str, Query(max_length=50)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Where one stands, first line first."""
    must(request, Role.VIEWER)
    house = _house(request)
    found = house.overview()
    chosen = [one for one in found.vms if _fits(one, q, state)]
    first = (page - 1) * VMS_PER_PAGE
    since = _day_of(house.now_s()) - (DAYS_SHOWN - 1) * DAY_S
    days = house.days(since, since + DAYS_SHOWN * DAY_S)
    following = {job: one for one in reversed(house.schedules()) if one.next_at for job in one.jobs}
    return _page(
        request,
        "overview.html",
        found=found,
        counts={state: sum(1 for one in found.vms if one.state == state) for state in State},
        vms=chosen[first : first + VMS_PER_PAGE],
        total=len(chosen),
        first=first,
        q=q,
        state=state,
        page=page,
        pages=-(-len(chosen) // VMS_PER_PAGE),
        query=urlencode({"q": q, "state": state}),
        problems=house.problems(),
        live=house.live(),
        following=following,
        outcomes=Markup(_outcomes_by_day(days, since)),  # noqa: S704 - made by charts, which escape
        traffic=Markup(_traffic_by_day(days, since)),  # noqa: S704
    )


@router.get("/vms/{uuid}", response_class=HTMLResponse)
def vm(request: Request, uuid: str, before: float | None = None) -> Response:
    """One VM."""
    must(request, Role.VIEWER)
    house = _house(request)
    rows = ask.subjects(house.store(), uuid, limit=RUNS_PER_PAGE, before=before)
    if not rows and before is None:
        raise Refused(404, "no run knows this VM")
    standings = house.standings(uuid)
    good = [row for row in reversed(rows) if row["outcome"] == "ok"]
    return _page(
        request,
        "vm.html",
        name=rows[0]["name"] if rows else uuid,
        uuid=uuid,
        rows=rows,
        standings=standings,
        checks=ask.checks(house.store(), uuid, limit=1),
        older=rows[-1]["began_at"] if len(rows) == RUNS_PER_PAGE else None,
        sizes=Markup(_runs_chart(request, "Read from the pool", good, "read_bytes", shown.size)),  # noqa: S704
        durations=Markup(_runs_chart(request, "Time taken", good, "duration_s", shown.length)),  # noqa: S704
    )


@router.get("/runs", response_class=HTMLResponse)
def runs(
    request: Request,
    job: Annotated[str, Query(max_length=200)] = "",
    outcome: Annotated[str, Query(max_length=50)] = "",
    before: float | None = None,
) -> Response:
    """Runs of the past, and those that go on."""
    must(request, Role.VIEWER)
    house = _house(request)
    rows = ask.runs(house.store(), limit=RUNS_PER_PAGE, before=before, job=job or None, outcome=outcome or None)
    older = rows[-1]["began_at"] if len(rows) == RUNS_PER_PAGE else None
    return _page(
        request,
        "runs.html",
        rows=rows,
        job=job,
        outcome=outcome,
        jobs=[one.name for one in house.jobs()],
        older=urlencode({"job": job, "outcome": outcome, "before": older}) if older else "",
        live=house.live(),
    )


_RANKS = {"failed": 0, "interrupted": 0, "ok": 2, "skipped": 3}
"""Who needs somebody comes first."""


@router.get("/runs/{run_id}", response_class=HTMLResponse)
def run(request: Request, run_id: str) -> Response:
    """One run in depth."""
    must(request, Role.VIEWER)
    found = ask.run(_house(request).store(), run_id)
    if found is None:
        raise Refused(404, "no run has this id")
    for one in found["subjects"]:
        one["outcome_rank"] = _RANKS.get(one["outcome"], 1)
    timeline = charts.timeline("What happened when", _phase_rows(found), shown=shown.length)
    return _page(request, "run.html", run=found, timeline=Markup(timeline))  # noqa: S704


@router.get("/schedules", response_class=HTMLResponse)
def schedules(request: Request) -> Response:
    """When what runs, and the next week."""
    must(request, Role.VIEWER)
    house = _house(request)
    days: dict[str, list[Any]] = {}
    for start in house.calendar(7):
        days.setdefault(f"{start.at:%A, %Y-%m-%d}", []).append(start)
    return _page(request, "schedules.html", schedules=house.schedules(), days=days)


@router.get("/remotes", response_class=HTMLResponse)
def remotes(request: Request) -> Response:
    """How full the remotes are, and how fast they fill."""
    must(request, Role.VIEWER)
    house = _house(request)
    since = house.now_s() - 90 * DAY_S
    views = []
    for one in house.remotes():
        samples = ask.samples(house.store(), one.name, since=since)
        views.append((one, Markup(_gauge(one)), Markup(_growth(request, one, samples))))  # noqa: S704
    return _page(request, "remotes.html", remotes=views)


@router.get("/problems", response_class=HTMLResponse)
def problems(request: Request, days: Annotated[float, Query(gt=0, le=3660)] = 7) -> Response:
    """What went wrong lately, and what to do."""
    must(request, Role.VIEWER)
    house = _house(request)
    rows = ask.problems(house.store(), since=house.now_s() - days * DAY_S, limit=300)
    return _page(request, "problems.html", rows=_grouped(rows), days=days, service=house.problems())


@router.get("/audit", response_class=HTMLResponse)
def audit(request: Request) -> Response:
    """Who did what."""
    must(request, Role.ADMIN)
    return _page(request, "audit.html", deeds=_door(request).audit.newest())


@router.get("/login", response_class=HTMLResponse)
def login_page(request: Request, next: str = "/") -> Response:
    return _page(request, "login.html", next=_ours(next), told="", name="")


@router.post("/login", response_class=HTMLResponse)
def login(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """A session for who knows the password.

    Every try is written down, but for those that are refused unheard: guessing must not fill the disk.
    """
    door, address = _door(request), address_of(request)
    keys = (f"address {address}", f"name {name}")
    if wait_s := door.throttle.wait_s(*keys):
        told = f"Too many tries. Wait {shown.length(wait_s)}."
        return _page(request, "login.html", status=429, next=_ours(next), told=told, name=name)
    user = door.passwords.check(name, password)
    door.audit.note(name, address, "login", ok=user is not None)
    if user is None:
        door.throttle.failed(*keys)
        told = "This name and password do not fit."
        return _page(request, "login.html", status=401, next=_ours(next), told=told, name=name)
    door.throttle.succeeded(*keys)
    response = RedirectResponse(_ours(next), status_code=303)
    word = door.sessions.begin(user.name, user.role)
    secure = door.settings.secure
    response.set_cookie(COOKIE, word, max_age=int(LONGEST_S), httponly=True, samesite="lax", secure=secure, path="/")
    return response


@router.post("/logout")
def logout(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Response:
    may_change(request, Role.VIEWER, csrf, "logout", "")
    _door(request).sessions.end(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response


@router.post("/schedules/{name}/{deed}")
def change(
    request: Request,
    name: str,
    deed: str,
    csrf: Annotated[str, Form(max_length=200)] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Run, cancel, pause or resume a schedule."""
    if deed not in ("run", "cancel", "pause", "resume"):
        raise Refused(404, f"a schedule has no {deed!r}")
    who = may_change(request, Role.OPERATOR, csrf, deed, name)
    house = _house(request)
    if deed == "run":
        house.run_now(name)
    elif deed == "pause":
        house.pause(name, reason or f"by {who.name}")
    elif deed == "resume":
        house.resume(name)
    elif not house.cancel(name, f"cancelled by {who.name}"):
        raise Refused(409, f"schedule {name!r} neither runs nor waits")
    return RedirectResponse("/schedules", status_code=303)


def _ours(address: str) -> str:
    """Where to go after a login: a page of ours, whatever the address says."""
    good = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if good and "\\" not in address else "/"


def _fits(one: Standing, q: str, state: str) -> bool:
    text = q.strip().lower()
    return (not state or one.state == state) and (
        not text or any(text in part.lower() for part in (one.name, one.uuid, one.job, one.pool))
    )


def _day_of(at: float) -> int:
    return int(at // DAY_S) * DAY_S


def _outcomes_by_day(days: Sequence[Mapping[str, Any]], since: int) -> str:
    by_day = {row["day"]: row for row in days}
    marks = []
    for day in range(since, since + DAYS_SHOWN * DAY_S, DAY_S):
        row = by_day.get(day, {"ok": 0, "failed": 0, "interrupted": 0})
        bad = row["failed"] + row["interrupted"]
        told = f"{_date(day)}: {row['ok']} good, {bad} failed"
        marks.append(charts.Mark(label=_date(day)[5:], parts=(("good", row["ok"]), ("bad", bad)), told=told))
    return charts.bars("Backups of VMs per day", marks, shown=lambda value: f"{value:.0f}", empty="no run in 30 days")


def _traffic_by_day(days: Sequence[Mapping[str, Any]], since: int) -> str:
    by_day = {row["day"]: row for row in days}
    marks = []
    for day in range(since, since + DAYS_SHOWN * DAY_S, DAY_S):
        row = by_day.get(day, {"read_bytes": 0, "merged_bytes": 0})
        told = (
            f"{_date(day)}: {shown.size(row['read_bytes'])} read, {shown.size(row['merged_bytes'])} moved by merges"
        )
        marks.append(charts.Mark(label=_date(day)[5:], parts=(("plain", row["read_bytes"]),), told=told))
    return charts.bars("Read from pools per day", marks, shown=shown.size, empty="nothing was read in 30 days")


def _date(day: float) -> str:
    return f"{datetime.fromtimestamp(day, tz=UTC):%Y-%m-%d}"


def _runs_chart(request: Request, title: str, rows: Sequence[Mapping[str, Any]], key: str, form: Any) -> str:
    zone = _door(request).settings.zone
    marks = [
        charts.Mark(
            label=shown.moment(row["began_at"], zone)[5:10],
            parts=(("warn" if row["fulls"] else "plain", float(row[key])),),
            told=f"{shown.moment(row['began_at'], zone)}: {form(row[key])}, {row['mode'] or 'nothing read'}",
        )
        for row in rows
    ]
    return charts.bars(title, marks, shown=form, empty="no good run yet")


def _phase_rows(found: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, float, float, str]]]]:
    rows = []
    for one in found["subjects"]:
        spans = []
        for phase in one["phases"]:
            begin = phase["began_at"] - found["began_at"]
            took = phase["duration_s"] if phase["duration_s"] is not None else 0.0
            kind = "bad" if phase["ok"] is False else f"phase-{phase['phase']}" if phase["ok"] else "warn"
            told = f"{phase['phase']}: {shown.length(took)}"
            told += f", {phase['error']}" if phase["error"] else ""
            spans.append((kind, max(0.0, begin), max(0.0, begin) + took, told))
        if spans:
            rows.append((shown.line(one["name"] or one["uuid"], 22), spans))
    return rows


def _gauge(one: Any) -> str:
    if one.total_bytes and one.free_bytes is not None:
        told = f"{shown.size(one.free_bytes)} of {shown.size(one.total_bytes)} free"
        return charts.gauge(one.name, 1 - one.free_bytes / one.total_bytes, told)
    return ""


def _growth(request: Request, one: Any, samples: Sequence[Mapping[str, Any]]) -> str:
    zone = _door(request).settings.zone
    known = [row for row in samples if row["used_bytes"] is not None]
    step = max(1, len(known) // 90)
    points = [
        (
            row["at"],
            float(row["used_bytes"]),
            f"{shown.moment(row['at'], zone)}: {shown.size(row['used_bytes'])} used",
        )
        for row in known[::step]
    ]
    return charts.line("Used", points, shown=shown.size, limit=one.total_bytes)


def _grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same trouble of the same VM once, with how often; the newest first."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["job"], row["uuid"], row["remote"], row["level"], row["text"])
        if key in found:
            found[key]["times"] += 1
        else:
            found[key] = {**row, "times": 1}
    return list(found.values())
