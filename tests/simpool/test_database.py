"""Links that are kept both ways, deletions that cascade, generations that only grow."""

from __future__ import annotations

import random
import threading

import pytest

from xobackup.simpool.database import Database
from xobackup.simpool.failures import Failure
from xobackup.simpool.values import NULL


@pytest.fixture
def database() -> Database:
    return Database(random.Random(0))


def test_a_record_has_every_field_at_its_default(database: Database) -> None:
    ref = database.create("VBD", {})
    record = database.get("VBD", ref)
    assert set(record) == set(database.model["VBD"].fields)
    assert (record["unpluggable"], record["VM"], record["other_config"]) == (True, NULL, {})


def test_defaults_are_not_shared(database: Database) -> None:
    one, two = database.create("VM", {}), database.create("VM", {})
    database.get("VM", one)["tags"].append("x")
    assert database.get("VM", two)["tags"] == []


def test_sets_follow_the_reference_on_the_other_side(database: Database) -> None:
    first, second = database.create("VM", {}), database.create("VM", {})
    vbd = database.create("VBD", {"VM": first})
    assert database.get("VM", first)["VBDs"] == [vbd]
    database.update("VBD", vbd, VM=second)
    assert database.get("VM", first)["VBDs"] == []
    assert database.get("VM", second)["VBDs"] == [vbd]
    database.destroy("VBD", vbd)
    assert database.get("VM", second)["VBDs"] == []


def test_destroying_a_vm_takes_its_devices_and_metrics_along(database: Database) -> None:
    metrics = database.create("VM_metrics", {})
    vm = database.create("VM", {"metrics": metrics})
    vdi = database.create("VDI", {})
    for cls in ("VIF", "VTPM", "console"):
        database.create(cls, {"VM": vm})
    database.create("VBD", {"VM": vm, "VDI": vdi})
    database.destroy("VM", vm)
    for cls in ("VM", "VBD", "VIF", "VTPM", "console", "VM_metrics"):
        assert database.refs(cls) == [], cls
    assert database.get("VDI", vdi)["VBDs"] == []


def test_no_reference_survives_its_object(database: Database) -> None:
    vm = database.create("VM", {})
    snapshot = database.create("VM", {"snapshot_of": vm, "parent": vm})
    database.destroy("VM", vm)
    assert database.get("VM", snapshot)["snapshot_of"] == NULL
    assert database.get("VM", snapshot)["parent"] == NULL


def test_an_equal_value_is_no_change(database: Database) -> None:
    vm = database.create("VM", {"name_label": "x"})
    before = database.generation
    database.update("VM", vm, name_label="x")
    assert database.generation == before
    database.update("VM", vm, name_label="y")
    assert database.generation == before + 1


def test_a_change_of_a_link_is_a_change_of_both_sides(database: Database) -> None:
    vm = database.create("VM", {})
    before = database.row("VM", vm).modified
    database.create("VBD", {"VM": vm})
    assert database.row("VM", vm).modified > before


def test_uuids_are_unique(database: Database) -> None:
    database.create("VM", {"uuid": "same"})
    with pytest.raises(Failure, match="DB_UNIQUENESS_CONSTRAINT_VIOLATION"):
        database.create("VM", {"uuid": "same"})


def test_records_given_out_are_copies(database: Database) -> None:
    vm = database.create("VM", {})
    database.copy("VM", vm)["tags"].append("x")
    database.records("VM")[vm]["other_config"]["a"] = "b"
    assert database.get("VM", vm)["tags"] == []
    assert database.get("VM", vm)["other_config"] == {}


def test_the_same_seed_gives_the_same_references() -> None:
    assert Database(random.Random(5)).new_ref() == Database(random.Random(5)).new_ref()


def test_many_threads_lose_nothing(database: Database) -> None:
    vm = database.create("VM", {})

    def work() -> None:
        for _ in range(100):
            vbd = database.create("VBD", {"VM": vm})
            database.update("VBD", vbd, bootable=True)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(database.get("VM", vm)["VBDs"]) == sorted(database.refs("VBD"))
    assert len(database.refs("VBD")) == 600
