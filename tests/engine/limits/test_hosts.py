"""Which host serves an SR's disks: the master where it sees the SR, else one that does."""

from xobackup.engine.limits.hosts import serving_hosts

HOSTS = {name: {"uuid": f"uuid-{name}", "name_label": name} for name in ("one", "two", "three")}
SRS = {"shared": {"uuid": "s"}, "local": {"uuid": "l"}, "away": {"uuid": "a"}, "unplugged": {"uuid": "u"}}


def pbd(sr: str, host: str, *, attached: bool = True) -> dict[str, object]:
    return {"SR": sr, "host": host, "currently_attached": attached}


def test_the_master_serves_what_it_sees_and_others_the_rest() -> None:
    pbds = {
        "1": pbd("shared", "two"),
        "2": pbd("shared", "one"),
        "3": pbd("local", "three"),
        "4": pbd("away", "gone"),
        "5": pbd("unplugged", "one", attached=False),
    }
    found = serving_hosts(srs=SRS, pbds=pbds, hosts=HOSTS, master="one")
    assert {sr: host.name for sr, host in found.items()} == {"s": "one", "l": "three"}
