"""Which site does a VM."""

from __future__ import annotations

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
