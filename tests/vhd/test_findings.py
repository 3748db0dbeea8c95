from __future__ import annotations

from uuid import UUID

from vhd.errors import (
    ChainError,
    Malformed,
    MergeError,
    MissingParent,
    ParentLoop,
    ParentMismatch,
    StreamError,
    Unsupported,
    VhdError,
)
from vhd.findings import Finding, Severity, errors_of

BAD = Finding(code="footer-cookie", message="expected b'conectix', found b'x'")
ODD = Finding(code="footer-uuid", message="expected a uuid, found zeros", severity=Severity.WARNING)


def test_only_errors_make_a_disk_unusable() -> None:
    assert errors_of([BAD, ODD]) == [BAD]


def test_errors_say_what_is_wrong_with_what() -> None:
    texts = {
        str(Malformed("a.vhd", [BAD, ODD])): (
            "a.vhd: footer-cookie: expected b'conectix', found b'x'; footer-uuid: expected a uuid, found zeros"
        ),
        str(Unsupported("a.vhd", "changing a fixed disk")): "a.vhd: changing a fixed disk is not supported",
        str(MissingParent("b.vhd", "a.vhd")): "b.vhd: its parent a.vhd is missing",
        str(ParentMismatch("b.vhd", "a.vhd", str(UUID(int=1)), str(UUID(int=2)))): (
            "b.vhd: its parent a.vhd has uuid 00000000-0000-0000-0000-000000000002,"
            " expected 00000000-0000-0000-0000-000000000001"
        ),
        str(ParentLoop("b.vhd", "a.vhd")): "b.vhd: its chain of parents comes back to a.vhd",
        str(StreamError("stream", "ended")): "stream: ended",
        str(MergeError("a.vhd", "no")): "a.vhd: no",
    }
    for found, expected in texts.items():
        assert found == expected


def test_one_root_catches_them_all() -> None:
    for kind in (Malformed, Unsupported, ChainError, StreamError, MergeError):
        assert issubclass(kind, VhdError)
    for kind in (MissingParent, ParentMismatch, ParentLoop):
        assert issubclass(kind, ChainError)
