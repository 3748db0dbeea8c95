"""Reading an export: JSON, gzipped or not; encrypted and foreign files are refused, each with its reason."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.config.from_xo.errors import BadExport
from xobackup.config.from_xo.export import read_export
from xobackup.config.from_xo.plan import Wishes, translate
from xotest.xo_config import NIGHTLY, small_export

RAW = json.dumps(small_export()).encode()


@pytest.mark.parametrize("raw", [RAW, gzip.compress(RAW, mtime=0), b"\xef\xbb\xbf" + RAW, b"\n " + RAW])
def test_an_export_is_read(raw: bytes) -> None:
    records = read_export(raw, "x.json")
    assert [job.id for job in records.jobs] == [NIGHTLY]
    assert records.servers[0].password == "paris secret" and "paris secret" not in repr(records)


@pytest.mark.parametrize(
    "raw", [b"\xc3\x2e\x04\x09\x03\x08", b"\x8c\x0d\x04\x09", b"-----BEGIN PGP MESSAGE-----\n\nx"]
)
def test_an_encrypted_export_is_refused_with_what_to_do(raw: bytes) -> None:
    """The first bytes of an OpenPGP message with a passphrase: new and old form of the packet, and armored."""
    with pytest.raises(BadExport, match="it is encrypted with a passphrase") as caught:
        read_export(raw, "XO-config.json.gz.enc")
    assert "gpg --decrypt" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "expected a JSON object, found a list"),
        (b"{}", "it has no jobs"),
        (b'{"jobs": {}}', "jobs: expected a list, found an object"),
        (b'{"jobs": [NaN]}', "NaN is no JSON"),
        (b'{"jobs": [' + b"[" * 100_000, "expected JSON"),
        (b'{"jobs": ' + b'[{"a":' * 100 + b"1" + b"}]" * 100 + b"}", "nested deeper"),
        (gzip.compress(RAW, mtime=0)[:-20], "ends too early"),
        (gzip.compress(RAW, mtime=0)[:10] + b"garbage", "gzip"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_said_to_be_none(raw: bytes, expected: str) -> None:
    with pytest.raises(BadExport, match=expected):
        read_export(raw, "x.json")


def test_members_that_are_no_records_are_told_and_the_others_read() -> None:
    value = small_export()
    value["jobs"] += [7, {"name": "no id"}, None]
    records = read_export(json.dumps(value).encode(), "x")
    assert [job.id for job in records.jobs] == [NIGHTLY]
    assert str(records.remarks[0]).startswith("refused: job number 2: expected an object")
    assert len(records.remarks) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON, raw=st.binary(max_size=60))
def test_any_bytes_raise_only_bad_export(value: Any, raw: bytes) -> None:
    for one in (raw, json.dumps(value).encode(), json.dumps({"jobs": value, "remotes": [value]}).encode()):
        try:
            records = read_export(one, "x")
        except BadExport:
            continue
        translate(records, "x", Wishes())
