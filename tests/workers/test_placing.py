"""Which site does a VM."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xobackup.workers.peers import Peer
from xobackup.workers.placing import Need, choose
from xobackup.workers.records import ANYWHERE, LEASE_S, Seen, Worker

NEED = Need(pool="lyon", pool_sites=("lyon",), remotes={"nas": ("lyon", "paris"), "s3": ()}, targets={})


def worker(
    site: str, *, reach=("lyon", "nas", "s3"), age_s: float = 0.0, slots: int = 4, doing: int = 0, **more
) -> Seen:
    names = {"pools": list(reach), "remotes": list(reach), "targets": list(reach)}
    told = Worker(id=site, site=site, host="h", pid=1, version="1", slots=slots, reach=names, **more)
    return Seen(worker=told, age_s=age_s, up_s=1.0, skew_s=0.0, doing=({},) * doing)


def chosen(workers, *, need: Need = NEED, here: str = "", loads=None):
    return choose(need, workers, here=here, loads=loads or {})


def test_the_site_that_most_places_name_does_it() -> None:
    choice = chosen([worker("lyon"), worker("paris")])
    assert (choice.queue, choice.waits) == ("lyon", False) and choice.reason == "site lyon is nearest to lyon, nas"


def test_a_worker_that_cannot_or_will_not_is_passed_over() -> None:
    for one in (
        worker("paris"),
        worker("lyon", age_s=LEASE_S + 1),
        worker("lyon", draining=True),
        worker("lyon", reach=("lyon", "nas")),
    ):
        choice = chosen([one])
        assert choice.waits and "no worker of site lyon lives" in choice.reason, one


def test_without_a_worker_it_is_done_here_where_that_reaches_everything() -> None:
    choice = chosen([], here="lyon")
    assert choice.queue is None and not choice.waits and "done here" in choice.reason


def test_places_that_no_site_reaches_together_are_told() -> None:
    apart = Need(pool="lyon", pool_sites=("lyon",), remotes={"nas": ("paris",)}, targets={})
    choice = chosen([worker("lyon"), worker("paris")], need=apart)
    assert choice.waits and choice.reason == "no site reaches all of lyon, nas"


def test_of_equals_the_one_with_the_least_to_do() -> None:
    free = Need(pool="p", remotes={"s3": ()}, targets={})
    reach = ("p", "s3")
    busy, idle = worker("a", reach=reach, doing=3), worker("b", reach=reach, doing=1)
    assert chosen([busy, idle], need=free).queue == "b"
    assert chosen([busy, idle], need=free, loads={"b": 8}).queue == "a"
    assert chosen([worker("", reach=reach)], need=free).queue == ANYWHERE


REPLICATED = Need(
    pool="paris",
    pool_sites=("paris",),
    remotes={"nas": ("paris",)},
    targets={"dr": ("lyon",)},
    target_pools={"dr": "lyon"},
)
HERE_AND_THERE = ("paris", "nas", "lyon", "dr")


def peer(site: str, address: str = "10.1.0.5:8483", **more: bool) -> Peer:
    return Peer(worker=site, site=site, address=address, certificate="", **more)


def led(workers, peers, *, need: Need = REPLICATED, here: str = ""):
    return choose(need, workers, here=here, loads={}, peers=peers)


def test_the_pool_of_a_target_is_led_to_by_a_relay_of_its_site() -> None:
    both = [worker("paris", reach=("paris", "nas")), worker("lyon", reach=("lyon", "dr"))]
    choice = led(both, [peer("paris", ""), peer("lyon")])
    assert (choice.queue, choice.through, choice.waits) == ("paris", {"pool:lyon": "lyon"}, False)
    assert choice.reason == "site paris is nearest to paris, nas; dr through the relay at lyon"


def test_who_reaches_everything_is_not_led() -> None:
    everywhere = replace(REPLICATED, targets={"dr": ("lyon", "paris")})
    both = [worker("paris", reach=HERE_AND_THERE), worker("lyon", reach=("lyon", "dr"))]
    choice = led(both, [peer("paris"), peer("lyon")], need=everywhere)
    assert choice.queue == "paris" and not choice.through
    here = led([worker("lyon", reach=("lyon", "dr"))], [peer("lyon")], need=everywhere, here="paris")
    assert here.queue is None and not here.waits


SOURCE, TARGET = worker("paris", reach=("paris", "nas")), worker("lyon", reach=("lyon", "dr"))


@pytest.mark.parametrize(("workers", "peers"), [
    ([worker("paris", reach=HERE_AND_THERE)], [peer("paris")]),
    ([SOURCE, TARGET], [peer("paris"), peer("lyon", "")]),
    ([SOURCE, TARGET], [peer("lyon")]),
    ([SOURCE, worker("lyon", reach=("lyon",))], [peer("paris"), peer("lyon")]),
    ([SOURCE, worker("lyon", reach=("dr",))], [peer("paris"), peer("lyon")]),
    ([worker("paris", reach=("paris",)), TARGET], [peer("paris"), peer("lyon")]),
    ([TARGET], [peer("lyon")]),
])  # fmt: skip
def test_without_both_ends_it_waits(workers, peers) -> None:
    choice = led(workers, peers)
    assert choice.waits and "no worker with a relay lives that leads to dr" in choice.reason


def test_a_remote_is_never_led_to_for_a_backup() -> None:
    need = replace(REPLICATED, remotes={"nas": ("lyon",)}, targets={})
    both = [worker("paris", reach=("paris",)), worker("lyon", reach=("lyon", "nas"))]
    assert led(both, [peer("paris"), peer("lyon")], need=need).waits
