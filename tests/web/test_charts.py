"""Pictures are well-formed, say what they show, and bear any number."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from xobackup.web import charts, shown

NUMBERS = st.floats(min_value=0, max_value=1e18, allow_nan=False)
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), max_size=30)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@given(values=st.lists(st.tuples(NUMBERS, TEXTS), max_size=40), title=TEXTS)
def test_bars(values: list[tuple[float, str]], title: str) -> None:
    marks = [
        charts.Mark(label=text, parts=(("good", value), ("bad", value / 2)), told=text) for value, text in values
    ]
    drawn = parsed(charts.bars(title, marks, shown=shown.size))
    for rect in drawn.iter("rect"):
        assert 0 <= float(rect.get("y", "")) <= charts.HEIGHT and float(rect.get("height", "")) <= charts.HEIGHT
    assert drawn.tag == "p" or drawn.get("role") == "img"


@given(values=st.lists(NUMBERS, max_size=40), limit=st.none() | NUMBERS)
def test_lines(values: list[float], limit: float | None) -> None:
    points = [(float(at), value, "said") for at, value in enumerate(values)]
    parsed(charts.line("t", points, shown=shown.size, limit=limit))


@given(rows=st.lists(st.tuples(TEXTS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4)), max_size=6))
def test_timelines(rows: list[tuple[str, list[tuple[float, float]]]]) -> None:
    spans = [(label, [("good", begin, begin + took, label) for begin, took in each]) for label, each in rows]
    parsed(charts.timeline("t", spans, shown=shown.length))


def test_gauges_say_when_it_gets_tight() -> None:
    assert 'class="good"' in charts.gauge("nas", 0.5, "half")
    assert 'class="warn"' in charts.gauge("nas", 0.9, "x") and 'class="bad"' in charts.gauge("nas", 0.99, "x")
    assert 'aria-label="n&quot;: half"' in charts.gauge('n"', 2, "half")


def test_numbers_as_people_read_them() -> None:
    assert [shown.size(value) for value in (None, 0, 1023, 1536, 150 << 30)] == [
        "–",
        "0 B",
        "1023 B",
        "1.5 KiB",
        "150 GiB",
    ]
    assert [shown.length(value) for value in (None, 0.25, 59, 61, 3600, 3700, 90 * 3600)] == [
        "–", "0.2 s", "59 s", "1 min 01 s", "1 h", "1 h 01 min", "3 d 18 h",
    ]  # fmt: skip
    assert shown.line("a\n\x00b\u202ec" + "x" * 300).startswith("a b c") and len(shown.line("x" * 300)) == 200
