"""What an auditor reads: which restore points were started, how long each step took, what failed and why. Pure.

Data in, text out. The page is one file without scripts and without anything loaded from elsewhere; every name in it
is escaped. Times to recovery are measured, from the beginning of a VM's restore to its last answer.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from xobackup.engine.health.request import CheckResult

_STYLE = (
    "body{font:15px/1.4 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #999;padding:.3em .5em;text-align:left;"
    "vertical-align:top;overflow-wrap:anywhere}.bad{font-weight:bold;color:#a00}.ok{color:#060}"
    "@media print{body{margin:0;max-width:none}tr{break-inside:avoid}}"
)


def as_data(title: str, results: Sequence[CheckResult], *, made_at: str) -> dict[str, Any]:
    """The report as JSON takes it."""
    return {
        "title": title,
        "made_at": made_at,
        "vms": len(results),
        "failed": sum(not one.ok for one in results),
        "rto_total_s": round(sum(one.rto_s for one in results), 3),
        "results": [one.as_data() for one in results],
    }


def as_json(title: str, results: Sequence[CheckResult], *, made_at: str) -> str:
    return json.dumps(as_data(title, results, made_at=made_at), indent=2) + "\n"


def as_html(title: str, results: Sequence[CheckResult], *, made_at: str) -> str:
    """One page, readable when printed."""
    told = as_data(title, results, made_at=made_at)
    verdict = f"{told['vms'] - told['failed']} of {told['vms']} VMs passed"
    intro = (
        f"<p>Made at {text(made_at)}. "
        f'<span class="{"bad" if told["failed"] else "ok"}">{verdict}</span>; '
        f"{told['rto_total_s']:.1f} s in total, one after the other.</p>\n"
    )
    head = ("VM", "restore point", "where", "result", "steps", "RTO")
    return page(title, intro, head, [_row(one) for one in results])


def page(title: str, intro: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A page with one table. ``intro`` and the cells of ``rows`` are HTML, made with :func:`text`."""
    names = "".join(f"<th>{text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{text(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{text(title)}</h1>\n{intro}"
        f"<table><thead><tr>{names}</tr></thead>\n<tbody>{body}</tbody></table>\n</html>\n"
    )


def _row(one: CheckResult) -> tuple[str, ...]:
    steps = "<br>".join(
        f"{text(step.name)}: {step.seconds:.1f} s{'' if step.ok else ' (failed)'}" for step in one.steps
    )
    result = '<span class="ok">passed</span>' if one.ok else f'<span class="bad">failed</span>: {text(one.reason)}'
    notes = [*one.warnings, *([] if one.removed else ["its VM could not be removed yet"])]
    result += "".join(f"<br>{text(note)}" for note in notes)
    return (
        f"{text(one.vm_name)}<br><small>{text(one.vm_uuid)}</small>",
        f"{text(one.point)}<br><small>{text(one.remote)}, {one.size_bytes >> 20} MiB</small>",
        f"{text(one.pool)}<br><small>SR {text(one.sr)}, {text(one.started_at)}</small>",
        result,
        steps,
        f"{one.rto_s:.1f} s",
    )


def text(value: str) -> str:
    """Escaped."""
    return html.escape(value, quote=True)
