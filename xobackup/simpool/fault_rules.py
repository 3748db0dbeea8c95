"""Faults as words, for the command line: ``KIND TARGET [VALUE...] [times=N] [skip=N]``.

Words are split as a shell does; :data:`KINDS` says which there are. A METHOD is a shell pattern of a call
(``VM.snapshot``, ``*VDI.destroy``) or of a transfer (``GET /export_raw_vdi``).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from xobackup.simpool.faults import FOREVER, Break
from xobackup.simpool.flags import BadFlag, parse_size

if TYPE_CHECKING:
    from xobackup.simpool.pool import SimPool

BREAKS: tuple[str, ...] = get_args(Break)
BREAKABLE = ("export", "import", "export_vm", "import_vm", "dump", "nbd")
LINGERING = ("export", "import", "export_vm", "nbd")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """A fault as words; :meth:`plan` puts it into a pool's plan."""

    kind: str
    values: tuple[str, ...]
    times: int | None
    skip: int

    def plan(self, pool: SimPool) -> None:
        KINDS[self.kind].plan(pool, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault: its words, what they do, and how they become a plan."""

    words: str
    does: str
    fewest: int
    most: int
    plan: Callable[[SimPool, FaultRule], None]
    check: Callable[[tuple[str, ...]], object] = len


def parse_fault(text: str) -> FaultRule:
    """A fault, checked as far as it can be without a pool."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadFlag("fault", text, f"words as in a shell ({error})") from None
    counts = {"times": None, "skip": 0} | {
        key: int(value)
        for key, sign, value in (word.partition("=") for word in words)
        if sign and key in ("times", "skip") and value.isdigit()
    }
    kind, *values = [word for word in words if word.partition("=")[0] not in ("times", "skip")] or [""]
    if kind not in KINDS:
        raise BadFlag("fault", text, f"one of {', '.join(KINDS)} as the first word, found {kind!r}")
    known = KINDS[kind]
    if not known.fewest <= len(values) <= known.most:
        raise BadFlag("fault", text, f"{kind} {known.words}".rstrip())
    try:
        known.check(tuple(values))
    except (ValueError, KeyError):
        raise BadFlag("fault", text, f"{kind} {known.words}") from None
    return FaultRule(kind=kind, values=tuple(values), times=counts["times"], skip=counts["skip"] or 0)


def _how(values: tuple[str, ...]) -> Break:
    how = values[2] if len(values) > 2 else "drop"
    if how not in BREAKS:
        raise ValueError(how)
    return how  # type: ignore[return-value]


def _breaks(values: tuple[str, ...]) -> None:
    parse_size(values[1])
    _how(values)
    _one_of(values[0], BREAKABLE)


def _lingers(values: tuple[str, ...]) -> None:
    _one_of(values[0], LINGERING)
    float(values[1])


def _one_of(value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(value)


def _fail(pool: SimPool, rule: FaultRule) -> None:
    method, code, *params = rule.values
    pool.faults.fail_call(method, code, params, times=rule.times or 1, skip=rule.skip)


def _break(pool: SimPool, rule: FaultRule) -> None:
    direction, count = rule.values[:2]
    pool.faults.break_transfer(
        direction, after_bytes=parse_size(count), how=_how(rule.values), times=rule.times or 1, skip=rule.skip
    )


def _act(action: Callable[[SimPool, tuple[str, ...]], None]) -> Callable[[SimPool, FaultRule], None]:
    """A plan for something that happens to the pool when a call arrives."""

    def plan(pool: SimPool, rule: FaultRule) -> None:
        method, *values = rule.values
        pool.faults.act_at(
            method, lambda: action(pool, tuple(values)), what=rule.kind, times=rule.times or 1, skip=rule.skip
        )

    return plan


def _new_master(pool: SimPool, values: tuple[str, ...]) -> None:
    pool.call("pool.designate_new_master", pool.host_server(values[0]).host)


def _go_down(pool: SimPool, values: tuple[str, ...]) -> None:
    pool.host_server(values[0]).go_down()


def _fill(pool: SimPool, values: tuple[str, ...]) -> None:
    pool.fill_sr(pool.sr_named(values[0]), parse_size(values[1]) if len(values) > 1 else 0)


KINDS: dict[str, Kind] = {
    "fail": Kind(
        words="METHOD CODE [PARAMETER...]",
        does="the call fails with this code before it does anything",
        fewest=2,
        most=16,
        plan=_fail,
    ),
    "lose": Kind(
        words="METHOD",
        does="the call is carried out, then the connection drops without an answer",
        fewest=1,
        most=1,
        plan=lambda pool, rule: _plan(pool.faults.lose_answer(rule.values[0], times=rule.times or 1, skip=rule.skip)),
    ),
    "delay": Kind(
        words="METHOD SECONDS",
        does="the call takes that much longer (task:METHOD: its task does)",
        fewest=2,
        most=2,
        check=lambda values: float(values[1]),
        plan=lambda pool, rule: _plan(
            pool.faults.delay_call(rule.values[0], float(rule.values[1]), times=rule.times or FOREVER)
        ),
    ),
    "expire": Kind(
        words="METHOD",
        does="all sessions are gone when the call arrives",
        fewest=1,
        most=1,
        plan=lambda pool, rule: _plan(
            pool.faults.expire_session_at(rule.values[0], times=rule.times or 1, skip=rule.skip)
        ),
    ),
    "break": Kind(
        words=f"{'|'.join(BREAKABLE)} SIZE [{'|'.join(BREAKS)}]",
        does="a transfer breaks after so many bytes: a second answer in the body, a reset, an early end, "
        "or an early end that its task calls a success; or it stands still with its connection open (`stall`), and "
        "the pool answers nothing any more (`silence`)",
        fewest=2,
        most=3,
        check=_breaks,
        plan=_break,
    ),
    "linger": Kind(
        words=f"{'|'.join(LINGERING)} SECONDS",
        does="the control domain keeps the disk that long after a transfer (VDI_IN_USE meanwhile)",
        fewest=2,
        most=2,
        check=_lingers,
        plan=lambda pool, rule: _plan(
            pool.faults.linger(rule.values[0], float(rule.values[1]), times=rule.times or 1)
        ),
    ),
    "vanish": Kind(
        words="LABEL",
        does="a task with this label is gone the moment it ends",
        fewest=1,
        most=1,
        plan=lambda pool, rule: _plan(pool.faults.vanish_task(rule.values[0], times=rule.times or 1, skip=rule.skip)),
    ),
    "cbt": Kind(
        words="",
        does="the next snapshot of a tracked disk cannot keep its log",
        fewest=0,
        most=0,
        plan=lambda pool, rule: _plan(pool.faults.lose_change_log(times=rule.times or 1, skip=rule.skip)),
    ),
    "restart": Kind(
        words="METHOD [SECONDS]",
        does="the toolstack restarts when the call arrives: sessions, connections and transfers end, and for so long "
        "every call is HOST_STILL_BOOTING",
        fewest=1,
        most=2,
        check=lambda values: [float(one) for one in values[1:]],
        plan=_act(lambda pool, values: pool.restart_toolstack(*map(float, values))),
    ),
    "master": Kind(
        words="METHOD HOST",
        does="HOST becomes the master when the call arrives",
        fewest=2,
        most=2,
        plan=_act(_new_master),
    ),
    "down": Kind(
        words="METHOD HOST",
        does="HOST loses its power when the call arrives",
        fewest=2,
        most=2,
        plan=_act(_go_down),
    ),
    "full": Kind(
        words="METHOD SR [FREE]",
        does="the repository is full (but for FREE) when the call arrives",
        fewest=2,
        most=3,
        check=lambda values: [parse_size(one) for one in values[2:]],
        plan=_act(_fill),
    ),
}
"""Kinds of faults that the command line knows; docs/simpool.md lists the same."""


def _plan(_fault: object) -> None:
    """A plan needs no more than to be made."""
