"""What is unusual by a VM's own history, and what is not. Pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xobackup.history.anomalies import ENTROPY_RUNS, RUNS_MIN, Anomaly, Odd, Run, anomalies, fulls_in_a_row

GIB = 1 << 30


def run(read_bytes: float, *, mode: str = "delta", **packed: float) -> Run:
    return Run(began_at=0.0, mode=mode, read_bytes=int(read_bytes), packed=packed, names={"d": "system"})


def of(code: Odd, runs: list[Run]) -> list[Anomaly]:
    return [one for one in anomalies(runs) if one.code is code]


def test_a_delta_far_above_the_usual_is_told_with_figures() -> None:
    usual = [run((4 + number % 3) * GIB) for number in range(12)]
    (told,) = of(Odd.DELTA, [run(60 * GIB), *usual])
    assert "60.0 GiB, 12 times its usual 5.0 GiB (the median of 12 runs, which were 4.0 GiB to 6.0 GiB)" in told.text
    assert "pin an older restore point" in told.advice
    assert not of(Odd.DELTA, [run(15 * GIB), *usual]), "three times is none"
    assert not of(Odd.DELTA, [run(60 * GIB), *usual[: RUNS_MIN - 1]]), "too few runs"
    assert not of(Odd.DELTA, [run(60 * GIB, mode="full"), *usual]), "a full is no delta"
    assert not of(Odd.DELTA, [run(1.9 * GIB), *[run(0)] * 20]), "too small to speak of"
    assert "far more than its usual 0 B" in of(Odd.DELTA, [run(3 * GIB), *[run(0)] * 20])[0].text
    uneven = [run(size_gib * GIB) for size_gib in (1, 30, 2, 25, 1, 28, 3, 40, 2, 30)]
    assert not of(Odd.DELTA, [run(62 * GIB), *uneven]), "this VM is like that"
    spoiled = [run(60 * GIB), *usual[:5], run(300 * GIB), *usual[5:]]
    assert of(Odd.DELTA, spoiled), "one odd run in the past hides nothing"


def test_contents_that_cannot_be_compressed_any_more_are_told_until_they_are_as_usual_for_a_while() -> None:
    usual = [run(GIB, d=0.4 + number % 3 / 100) for number in range(10)]
    (told,) = of(Odd.ENTROPY, [run(GIB, d=0.99), *usual])
    assert told.text.startswith(
        "disk system: what its newest run read cannot be compressed any more: 99% of its size"
    )
    assert "41% is usual (the median of 10 runs)" in told.text and "malware" in told.advice
    for quiet in range(ENTROPY_RUNS):
        told_later = of(Odd.ENTROPY, [*usual[:quiet], run(GIB, d=0.99), *usual])
        assert len(told_later) == 1
    assert not of(Odd.ENTROPY, [*usual[:ENTROPY_RUNS], run(GIB, d=0.99), *usual])
    media = [run(GIB, d=0.97) for _ in range(10)]
    assert not of(Odd.ENTROPY, [run(GIB, d=0.99), *media]), "it always was"
    assert not of(Odd.ENTROPY, [run(GIB, d=0.8), *usual]), "it still can be compressed"
    assert not of(Odd.ENTROPY, [run(GIB, e=0.99), *usual]), "nothing is known of a new disk"


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=40), st.floats(0, 1))
def test_a_vm_with_few_runs_or_steady_ones_is_never_unusual(sizes: list[float], packed: float) -> None:
    assert anomalies([run(one, d=packed) for one in sizes[: RUNS_MIN - 1]]) == []
    assert anomalies([run(sizes[0], d=packed)] * 20) == []
    anomalies([run(one, d=packed) for one in sizes])


def test_fulls_in_a_row() -> None:
    full, delta = run(GIB, mode="full"), run(GIB)
    assert [fulls_in_a_row(runs) for runs in ([], [full], [full, full, delta, full], [delta, full])] == [0, 1, 2, 0]
