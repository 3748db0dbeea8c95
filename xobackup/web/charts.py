"""Pictures from numbers: SVG, made here, styled by the page's own colours. Pure.

Every picture has a title and a sentence that says what it shows to those who cannot see it; every mark says its
value when one points at it. An empty series is a sentence, not an empty box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 140
_LEFT, _BOTTOM, _TOP = 64, 20, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One bar: its parts from the bottom up as (class of the style sheet, value), and what it says."""

    label: str
    parts: tuple[tuple[str, float], ...]
    told: str

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


def bars(title: str, marks: Sequence[Mark], *, shown: Callable[[float], str], empty: str = "nothing yet") -> str:
    """Bars side by side; ``shown`` writes a value at the axis."""
    most = max((mark.total for mark in marks), default=0)
    if most <= 0:
        return f'<p class="empty">{escape(title)}: {escape(empty)}</p>'
    room = (WIDTH - _LEFT) / len(marks)
    wide = max(1.0, min(room * 0.75, 40))
    body = [_frame(most, shown)]
    step = max(1, -(-len(marks) // 8))
    for number, mark in enumerate(marks):
        x = _LEFT + number * room + (room - wide) / 2
        y = float(HEIGHT - _BOTTOM)
        shapes = []
        for kind, value in mark.parts:
            tall = value / most * (HEIGHT - _BOTTOM - _TOP)
            y -= tall
            if tall > 0:
                shapes.append(
                    f'<rect class="{escape(kind)}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.2f}"/>'
                )
        body.append(f"<g><title>{escape(mark.told)}</title>{''.join(shapes)}</g>")
        if number % step == 0:
            place = f'x="{x + wide / 2:.1f}" y="{HEIGHT - 5}" text-anchor="middle"'
            body.append(f'<text class="axis" {place}>{escape(mark.label)}</text>')
    return _svg(title, f"{len(marks)} bars, the highest {shown(most)}", body)


def line(
    title: str,
    points: Sequence[tuple[float, float, str]],
    *,
    shown: Callable[[float], str],
    limit: float | None = None,
) -> str:
    """A line over time: (time, value, what it says). ``limit``: a line across, such as an objective or a capacity."""
    if len(points) < 2:
        return f'<p class="empty">{escape(title)}: not enough to draw yet</p>'
    most = max([value for _, value, _ in points] + ([limit] if limit else []))
    first, last = points[0][0], points[-1][0]
    if most <= 0 or last <= first:
        return f'<p class="empty">{escape(title)}: nothing to draw</p>'

    def place(at: float, value: float) -> tuple[float, float]:
        x = _LEFT + (at - first) / (last - first) * (WIDTH - _LEFT - 6)
        return x, HEIGHT - _BOTTOM - value / most * (HEIGHT - _BOTTOM - _TOP)

    body = [_frame(most, shown)]
    if limit:
        y = place(first, limit)[1]
        across = f'x1="{_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
        body.append(f'<line class="limit" {across}><title>{escape(shown(limit))}</title></line>')
    places = [place(at, value) for at, value, _ in points]
    body.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
    for (x, y), (_, _, told) in zip(places, points, strict=True):
        body.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(told)}</title></circle>')
    return _svg(title, f"{len(points)} values, the highest {shown(most)}, the last {shown(points[-1][1])}", body)


def timeline(
    title: str, rows: Sequence[tuple[str, Sequence[tuple[str, float, float, str]]]], *, shown: Callable[[float], str]
) -> str:
    """What happened beside each other: per row its label and spans (class, begin, end, what it says), in seconds."""
    end = max((stop for _, spans in rows for _, _, stop, _ in spans), default=0)
    if end <= 0:
        return f'<p class="empty">{escape(title)}: nothing to draw</p>'
    tall, left = 22, 150
    height = tall * len(rows) + _BOTTOM
    scale = (WIDTH - left) / end
    body = []
    for number, (label, spans) in enumerate(rows):
        y = number * tall
        body.append(f'<text class="axis" x="{left - 6}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        for kind, begin, stop, told in spans:
            x, wide = left + begin * scale, max(1.0, (stop - begin) * scale)
            place = f'x="{x:.1f}" y="{y + 3}" width="{wide:.1f}" height="{tall - 6}"'
            body.append(f'<rect class="{escape(kind)}" {place}><title>{escape(told)}</title></rect>')
    body += [
        f'<text class="axis" x="{left}" y="{height - 4}">0</text>',
        f'<text class="axis" x="{WIDTH}" y="{height - 4}" text-anchor="end">{escape(shown(end))}</text>',
    ]
    return _svg(title, f"{len(rows)} rows over {shown(end)}", body, height=height)


def gauge(title: str, share: float, told: str) -> str:
    """How full something is: a share from 0 to 1."""
    kind = "bad" if share > 0.95 else "warn" if share > 0.85 else "good"
    wide = max(0.0, min(1.0, share)) * 160
    return (
        '<svg class="gauge" viewBox="0 0 160 12" width="160" height="12" role="img" '
        f'aria-label="{escape(f"{title}: {told}")}"><rect class="ground" width="160" height="12" rx="3"/>'
        f'<rect class="{kind}" width="{wide:.1f}" height="12" rx="3"/></svg>'
    )


def _frame(most: float, shown: Callable[[float], str]) -> str:
    low = HEIGHT - _BOTTOM
    return (
        f'<line class="rule" x1="{_LEFT}" x2="{WIDTH}" y1="{low}" y2="{low}"/>'
        f'<line class="rule faint" x1="{_LEFT}" x2="{WIDTH}" y1="{_TOP}" y2="{_TOP}"/>'
        f'<text class="axis" x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{escape(shown(most))}</text>'
        f'<text class="axis" x="{_LEFT - 6}" y="{low + 4}" text-anchor="end">0</text>'
    )


def _svg(title: str, told: str, body: Sequence[str], *, height: int = HEIGHT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{title}: {told}")}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )
