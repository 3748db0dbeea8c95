"""Rules choose the VMs that Xen Orchestra's pattern does, or the pattern is refused."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.config.from_xo.patterns import (
    RULES_MAX,
    Always,
    Atom,
    Inexpressible,
    Rule,
    decided,
    parse_pattern,
    rules_of,
)


def rules(pattern: Any) -> tuple[list[Rule], list[Rule]]:
    return rules_of(decided(parse_pattern(pattern), lambda atom: None))


def matches(pattern: Any, value: Any) -> bool:
    """What npm's value-matcher says, by its documentation."""
    if isinstance(pattern, dict):
        if "__and" in pattern:
            return all(matches(one, value) for one in pattern["__and"])
        if "__or" in pattern:
            return any(matches(one, value) for one in pattern["__or"])
        if "__not" in pattern:
            return not matches(pattern["__not"], value)
        return isinstance(value, dict) and all(matches(one, value.get(key)) for key, one in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches(one, member) for member in value) for one in pattern)
    return bool(pattern == value)


def chosen(found: tuple[list[Rule], list[Rule]], vm: dict[str, Any]) -> bool:
    """By our rules."""

    def fits(rule: Rule) -> bool:
        return (
            rule.get("uuid", vm["id"]) == vm["id"]
            and fnmatchcase(vm["name_label"], rule.get("name", "*"))
            and ("tag" not in rule or rule["tag"] in vm["tags"])
            and rule.get("power_state", vm["power_state"]) == vm["power_state"]
        )

    return any(map(fits, found[0])) and not any(map(fits, found[1]))


TAGS = st.sampled_from(["a", "b", "c"]).map(lambda tag: [tag])
STATES = st.sampled_from(["Running", "Halted"])
IDS = st.sampled_from(["u1", "u2"])


def combined(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"__or": st.lists(inner, max_size=3)}),
            st.fixed_dictionaries({"__and": st.lists(inner, max_size=3)}),
            st.fixed_dictionaries({"__not": inner}),
        ),
        max_leaves=5,
    )


PROPERTIES = st.fixed_dictionaries(
    {"type": st.just("VM")},
    optional={
        "tags": combined(TAGS),
        "power_state": combined(STATES),
        "id": combined(IDS),
        "name_label": st.just("x*"),
    },
)
VMS = st.fixed_dictionaries(
    {
        "type": st.just("VM"),
        "id": st.sampled_from(["u1", "u2", "u3"]),
        "name_label": st.sampled_from(["x*", "xy"]),
        "power_state": st.sampled_from(["Running", "Halted", "Suspended"]),
        "tags": st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
    }
)


@given(pattern=combined(PROPERTIES), vms=st.lists(VMS, min_size=1, max_size=8))
def test_rules_choose_what_the_pattern_chooses(pattern: Any, vms: list[dict[str, Any]]) -> None:
    try:
        found = rules(pattern)
    except Inexpressible:
        return
    for vm in vms:
        assert chosen(found, vm) == matches(pattern, vm), (found, vm)


@given(
    values=st.lists(st.sampled_from("abc"), unique=True),
    nots=st.lists(st.sampled_from("abc"), unique=True),
    state=st.sampled_from(["Running", "Halted", None]),
    vms=st.lists(VMS, min_size=1, max_size=8),
)
def test_every_pattern_of_the_web_interface_can_be_expressed(
    values: list[str], nots: list[str], state: str | None, vms: list[dict[str, Any]]
) -> None:
    """Those of smart mode: a power state, tags to have, tags not to have."""
    some, none = {"__or": [[tag] for tag in values]}, {"__not": {"__or": [[tag] for tag in nots]}}
    tags = {"__and": [some, none]} if values and nots else some if values else none
    pattern: dict[str, Any] = {"type": "VM", "tags": tags} | ({"power_state": state} if state else {})
    found = rules(pattern)
    assert all(chosen(found, vm) == matches(pattern, vm) for vm in vms)


def test_all_vms_are_one_rule() -> None:
    assert rules({"type": "VM"}) == ([{"name": "*"}], [])
    assert rules({"type": "VM", "tags": {"__not": {"__or": [["x"]]}}}) == ([{"name": "*"}], [{"tag": "x"}])


def test_nothing_is_no_rule() -> None:
    assert rules({"id": {"__or": []}}) == ([], [])
    assert rules({"type": "VM-template"}) == ([], [])


def test_a_name_is_no_pattern() -> None:
    assert rules({"name_label": "web[1]*"}) == ([{"name": "web[[]1][*]"}], [])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, "expected an object"),
        ({"id": 7}, "vms.id: expected a text"),
        ({"resourceSet": "x"}, "vms.resourceSet: rules cannot ask for it"),
        ({"tags": [["a"], "b"]}, "vms.tags: expected a text"),
        ({"tags": {"__or": ["a"]}}, "vms.tags: expected lists of tags"),
        ({"tags": ["a", "b"]}, "two tags at once"),
        ({"power_state": "Sleeping"}, "no value it can have"),
        ({"__or": [{"tags": {"__not": ["a"]}}, {"id": "u"}]}, "a __not inside of an __or"),
        ({"__or": [], "id": "u"}, "beside other keys"),
        ({"__or": {}}, "expected a list"),
        ({"tags": {"regex": "a"}}, "not known here"),
        ({"__and": [1]}, "expected objects"),
    ],
)
def test_what_cannot_be_expressed_is_named(pattern: Any, expected: str) -> None:
    with pytest.raises(Inexpressible, match=expected):
        rules(pattern)


def test_a_pattern_that_explodes_is_refused_at_once() -> None:
    ids = {"__or": [str(number) for number in range(200)]}
    with pytest.raises(Inexpressible, match=f"more than {RULES_MAX} rules"):
        rules({"id": ids, "tags": {"__or": [[str(number)] for number in range(200)]}})


def test_a_deep_pattern_is_refused() -> None:
    pattern: Any = {"id": "u"}
    for _ in range(40):
        pattern = {"__not": pattern}
    with pytest.raises(Inexpressible, match="too deeply"):
        rules(pattern)


def test_deciding_an_atom_simplifies_the_rest() -> None:
    formula = parse_pattern({"type": "VM", "$pool": {"__or": ["p", "q"]}, "tags": ["a"]})
    assert decided(formula, lambda atom: atom.value == "p" if atom.key == "pool" else None) == Atom("tag", "a")
    assert decided(formula, lambda atom: False if atom.key == "pool" else None) == Always(False)
