"""For all tests: seeds that can be repeated, Hypothesis profiles, and skips that fail where everything must run."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import signal
import zlib
from collections.abc import Generator

import hypothesis
import pytest

from xotest.s3.fixtures import moto_store, radosgw_stores, rclone_store, s3_store

__all__ = ["moto_store", "radosgw_stores", "rclone_store", "s3_store"]

CI = bool(os.environ.get("CI"))
SEED = pytest.StashKey[int]()
SERVERS = frozenset({"radosgw_stores", "s3_store", "moto_store", "rclone_store", "radosgw", "moto", "postgresql"})
"""Servers that live as long as the session and are dear to start: by their fixtures, or as tests are told of them."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of ``mallopt``."""

hypothesis.settings.register_profile("dev", deadline=None, print_blob=True, max_examples=60)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("dev"), derandomize=True, database=None)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("dev"), max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "dev"))

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background of a shell: processes under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


with contextlib.suppress(OSError, AttributeError):  # blocks of 2 MiB from the heap, as no kernel has to clear them
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 32 << 20)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 256 << 20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="the seed printed with a failure, to repeat it")


def pytest_configure(config: pytest.Config) -> None:
    asked: int | None = config.getoption("--seed")
    workers = getattr(config, "workerinput", None)
    if workers is not None:
        seed = int(workers["seed"])
    elif asked is not None:
        seed = asked
    else:
        seed = 0 if CI else random.SystemRandom().getrandbits(32)
    config.stash[SEED] = seed
    if asked is not None:
        hypothesis.core.global_force_seed = asked


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who takes long and mostly waits comes first. Then who needs the same servers, one after the other: xdist hands
    out neighbours, so that one worker starts them and not each."""

    def needs_none(item: pytest.Item) -> bool:
        called = getattr(item, "callspec", None)
        asked = {value for value in called.params.values() if isinstance(value, str)} if called else set()
        return SERVERS.isdisjoint({*getattr(item, "fixturenames", ()), *asked})

    items.sort(key=lambda item: (item.get_closest_marker("waits") is None, needs_none(item)))


def pytest_collection_finish() -> None:
    """Thousands of tests and everything imported stay: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Every worker of xdist gets the seed of the whole run."""
    node.workerinput["seed"] = node.config.stash[SEED]  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.stash[SEED]} (repeat with --seed)"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of this test's own, drawn from ``--seed`` and the test's name."""
    return request.config.stash[SEED] ^ zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("seed", f"repeat with --seed {item.config.stash[SEED]}"))
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where everything must run: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if CI and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"module skipped where everything must run: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
