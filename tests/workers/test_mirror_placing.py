"""Which site copies from one remote to another, and through whose relay."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xobackup.workers.mirror_placing import MirrorNeed, choose_mirror
from xobackup.workers.peers import Peer
from xobackup.workers.placing import Choice
from xobackup.workers.records import ANYWHERE, LEASE_S, Seen, Worker

NEED = MirrorNeed(source="nas-lyon", source_sites=("lyon",), target="nas-paris", target_sites=("paris",))
LISTED = MirrorNeed(source="nas-lyon", source_sites=("lyon",))


def worker(
    id: str, *, remotes: Sequence[str] = ("nas-lyon", "nas-paris"), age_s: float = 0.0, doing: int = 0, **more: object
) -> Seen:
    """``id``: its site, with a number behind it."""
    told = Worker(
        id=id, site=id.rstrip("0123456789"), host="h", pid=1, version="1", slots=4, reach={"remotes": remotes}, **more
    )  # type: ignore[arg-type]
    return Seen(worker=told, age_s=age_s, up_s=1.0, skew_s=0.0, doing=({},) * doing)


def peer(id: str, address: str = "10.0.0.1:8483", **more: bool) -> Peer:
    return Peer(worker=id, site=id.rstrip("0123456789"), address=address, certificate="", **more)


def chosen(
    workers: Sequence[Seen], peers: Sequence[Peer] | None = None, *, need: MirrorNeed = NEED, here: str = ""
) -> Choice:
    known = [peer(one.worker.id) for one in workers] if peers is None else peers
    return choose_mirror(need, workers, known, here=here, loads={})


def test_the_targets_site_does_it_and_reads_through_the_sources() -> None:
    choice = chosen([worker("paris"), worker("lyon")])
    assert (choice.queue, choice.through, choice.waits) == ("paris", {"nas-lyon": "lyon"}, False)
    assert choice.reason == "site paris is nearest to nas-paris; nas-lyon through the relay at lyon"


def test_where_one_site_reaches_both_there_is_no_relay() -> None:
    need = MirrorNeed(
        source="nas-lyon", source_sites=("lyon", "mid"), target="nas-paris", target_sites=("paris", "mid")
    )
    choice = chosen([worker("paris"), worker("lyon"), worker("mid")], need=need)
    assert choice.queue == "mid" and not choice.through
    assert chosen([worker("paris"), worker("lyon")], need=need, here="mid").queue is None


def test_of_sites_that_reach_both_the_targets_own_does_it() -> None:
    need = MirrorNeed(source="nas-lyon", source_sites=("a", "b"), target="nas-paris", target_sites=("b", "a", "c"))
    both = [worker("a", doing=3), worker("b")]
    assert chosen(both, need=need).queue == "b"
    free = MirrorNeed(source="nas-lyon", target="nas-paris")
    assert chosen([worker("")], need=free).queue == ANYWHERE


@pytest.mark.parametrize(("workers", "peers", "missing"), [
    ([worker("paris")], None, "no worker with a relay lives that reaches nas-lyon"),
    ([worker("lyon")], None, "no worker lives that reaches nas-paris"),
    ([worker("paris"), worker("lyon")], [peer("paris"), peer("lyon", "")], "no worker with a relay lives"),
    ([worker("paris"), worker("lyon")], [peer("paris"), peer("lyon", draining=True)], "no worker with a relay lives"),
    ([worker("paris"), worker("lyon")], [peer("lyon")], "no worker lives that reaches nas-paris"),
    ([worker("paris"), worker("lyon", remotes=("nas-paris",))], None, "no worker with a relay lives"),
    ([worker("paris", remotes=("nas-lyon",)), worker("lyon")], None, "no worker lives that reaches nas-paris"),
    ([worker("paris", draining=True), worker("lyon")], None, "no worker lives that reaches nas-paris"),
    ([worker("paris"), worker("lyon", age_s=LEASE_S + 1)], None, "no worker with a relay lives"),
])  # fmt: skip
def test_whoever_cannot_is_passed_over_and_it_is_told(
    workers: Sequence[Seen], peers: Sequence[Peer] | None, missing: str
) -> None:
    choice = chosen(workers, peers)
    assert choice.waits and missing in choice.reason, choice


def test_a_list_is_made_where_the_source_is() -> None:
    choice = chosen([worker("paris"), worker("lyon")], need=LISTED)
    assert (choice.queue, choice.through) == ("lyon", {})
    assert chosen([worker("paris")], need=LISTED).waits
    assert chosen([worker("paris")], need=LISTED, here="lyon").queue is None


def test_the_choice_that_somebody_waits_by_is_still_good_or_not() -> None:
    one = chosen([worker("paris"), worker("lyon")])
    assert one.same_way(chosen([worker("paris"), worker("lyon"), worker("lyon2")]))
    assert not one.same_way(chosen([worker("paris")]))
