"""Chains that wait to be coalesced: what was seen of them is told, with the probable reason."""

from xobackup.engine.turns.chains import depth_warnings, refusal, seen, told, unhealthy_chains
from xotest.views import a_disk

LONG = a_disk("data", uncoalesced=4, chain=tuple("abcdef"), sr_name="local")


def test_only_disks_with_more_links_than_allowed_are_unhealthy() -> None:
    assert [chain.disk_name for chain in unhealthy_chains((a_disk(), LONG), 1)] == ["data"]
    assert unhealthy_chains((LONG,), 4) == ()
    assert told(unhealthy_chains((LONG,), 4), 4) == ""


def test_a_chain_in_which_nothing_changed_is_told_from_one_that_is_worked_on() -> None:
    first = unhealthy_chains((LONG,), 1)
    watch = seen(seen(None, first, 100.0), first, 700.0)
    sentence, hint = refusal(watch, 1000.0, 1)
    assert "disk data on SR local has 4 links" in sentence and "watched for 15 min: nothing changed" in sentence
    assert "SMlog" in hint
    shorter = unhealthy_chains((a_disk("data", uncoalesced=3, chain=tuple("abcde"), sr_name="local"),), 1)
    sentence, hint = refusal(seen(watch, shorter, 940.0), 1000.0, 1)
    assert "the storage works on it (links: 4 then, 3 now; it last changed 60 s ago)" in sentence
    assert "chain_wait_s" in hint


def test_a_chain_that_is_rebuilt_with_as_many_links_has_changed() -> None:
    first = unhealthy_chains((LONG,), 1)
    other = unhealthy_chains((a_disk("data", uncoalesced=4, chain=tuple("xbcdef")),), 1)
    assert seen(seen(None, first, 0.0), other, 15.0).changed_s == 15.0


def test_switches_that_stop_the_storage_are_the_probable_reason() -> None:
    disk = a_disk(uncoalesced=2, coalescing_off=("other-config:gc=false of the SR",))
    sentence, hint = refusal(seen(None, unhealthy_chains((disk,), 1), 0.0), 900.0, 1)
    assert sentence.endswith("; probably because of other-config:gc=false of the SR")
    assert "take those switches out" in hint


def test_without_waiting_the_hint_is_to_wait() -> None:
    sentence, hint = refusal(seen(None, unhealthy_chains((LONG,), 1), 0.0), 0.0, 1)
    assert "watched" not in sentence and "chain_wait_s" in hint


def test_a_chain_near_the_storages_limit_is_warned_of() -> None:
    deep = a_disk("data", chain=tuple(str(number) for number in range(23)))
    assert deep.depth == 24
    (warning,) = depth_warnings((deep, a_disk(), a_disk(chain=tuple("abc"))))
    assert "data" in warning and "24 links" in warning and "SR_BACKEND_FAILURE_109" in warning
