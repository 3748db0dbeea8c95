"""No disguise of a secret that a program would give it gets past."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from xobackup.scrub import MARKS, Scrubber

WORDS = st.text(min_size=6, max_size=40).filter(lambda text: len(text.strip().encode("utf-8", "replace")) >= 6)


@given(WORDS, st.binary(max_size=8), st.binary(max_size=8))
def test_in_whatever_way_it_is_written_it_is_found_and_removed(word: str, before: bytes, after: bytes) -> None:
    raw = word.encode()
    scrubber = Scrubber({"key": word})
    disguises = [
        raw,
        json.dumps({"text": word}).encode(),
        json.dumps({"text": word}, ensure_ascii=False).encode(),
        json.dumps(json.dumps({"text": word})).encode(),
        html.escape(word).encode(),
        quote(word).encode(),
        quote(word, safe="").encode(),
        quote_plus(word).encode(),
        raw.hex().encode(),
        base64.b64encode(before + raw + after),
        base64.urlsafe_b64encode(before + raw + after),
    ]
    for data in disguises:
        assert scrubber.holds(data) == ["key"]
        cleaned = scrubber.clean(data)
        assert not scrubber.holds(cleaned) and (raw not in cleaned)


def test_secrets_that_look_like_marks_or_stand_in_each_other() -> None:
    scrubber = Scrubber({"a": "removed", "b": "secret-one", "c": "secret-one-and-more", "d": "abc"})
    assert scrubber.too_short == ["d"]
    assert scrubber.clean(b"removed secret-one-and-more secsecret-oneret-one") == b"[---] [---] sec[---]ret-one"
    assert dict(scrubber.removed) == {"a": 1, "b": 1, "c": 1}
    everything = Scrubber({str(number): mark.decode() for number, mark in enumerate(MARKS)})
    assert everything.clean(b"x(removed)[---]y") == b"xy"
    assert Scrubber({}).clean(b"all of it") == b"all of it"
    assert scrubber.clean_data({"removed": ["secret-one", 1, None, True]}) == {"[---]": ["[---]", 1, None, True]}
