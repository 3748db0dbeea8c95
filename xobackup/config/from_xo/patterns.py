"""Which VMs: Xen Orchestra's pattern as a formula, and the formula as our rules.

A pattern is a value-matcher: an object whose keys must all fit, ``{__and: [...]}``, ``{__or: [...]}``,
``{__not: ...}``; a list stands for a property that has all of these members. Our rules are an ``include`` (any of
them) and an ``exclude`` (none of them), each a conjunction of keys. So a formula can be written when it is a
conjunction of factors that are free of negation, or the negation of one that is; the others are refused.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from xobackup.config.from_xo.remarks import plain
from xobackup.config.rules import VmRule

DEPTH_MAX = 30
RULES_MAX = 20_000
"""More rules than any configuration should have."""
POWER_STATES = ("Running", "Halted", "Paused", "Suspended")
_KEYS = {
    "id": "uuid",
    "uuid": "uuid",
    "name_label": "name",
    "power_state": "power_state",
    "tags": "tag",
    "$pool": "pool",
    "$poolId": "pool",
}
"""Xen Orchestra's property of a VM, and the key of our rules."""


class Inexpressible(Exception):
    """Our rules cannot say what the pattern says, or nobody knows what it means. The message says what."""


@dataclass(frozen=True, slots=True)
class Always:
    """True or false, whatever the VM."""

    value: bool


@dataclass(frozen=True, slots=True)
class Atom:
    """A key of a rule has this value."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Formula


Formula = Always | Atom | All | Some | Not
Rule = dict[str, str]


def parse_pattern(pattern: Any) -> Formula:
    """The formula of ``job.vms``. Raises :class:`Inexpressible`."""
    if not isinstance(pattern, dict):
        raise Inexpressible(f"vms: expected an object, found {plain(type(pattern).__name__)}")
    return _object(pattern, 0)


def _object(pattern: Any, depth: int) -> Formula:
    if not isinstance(pattern, dict):
        raise Inexpressible("vms: expected objects in __and, __or and __not")
    return _combined(pattern, _object, depth) or All(
        tuple(_property(key, value, depth + 1) for key, value in pattern.items())
    )


def _combined(pattern: dict[str, Any], member: Callable[[Any, int], Formula], depth: int) -> Formula | None:
    """``__and``, ``__or`` and ``__not``; ``None`` when there is none of them."""
    if depth > DEPTH_MAX:
        raise Inexpressible("vms: nested too deeply")
    operators = [key for key in pattern if key in ("__and", "__or", "__not")]
    if not operators:
        return None
    if len(pattern) > 1:
        raise Inexpressible(f"vms: {operators[0]} beside other keys")
    operand = pattern[operators[0]]
    if operators[0] == "__not":
        return Not(member(operand, depth + 1))
    if not isinstance(operand, list):
        raise Inexpressible(f"vms: {operators[0]}: expected a list")
    parts = tuple(member(one, depth + 1) for one in operand)
    return All(parts) if operators[0] == "__and" else Some(parts)


def _property(key: str, pattern: Any, depth: int) -> Formula:
    def member(one: Any, depth: int) -> Formula:
        return _property(key, one, depth)

    if isinstance(pattern, dict):
        combined = _combined(pattern, member, depth)
        if combined is None:
            raise Inexpressible(f"vms.{plain(key, most=60)}: a comparison that is not known here")
        return combined
    if key == "tags":
        if not isinstance(pattern, list):
            raise Inexpressible("vms.tags: expected lists of tags; a text alone is none of a VM's tags")
        return All(tuple(_leaf(key, one) for one in pattern))
    return _leaf(key, pattern)


def _leaf(key: str, value: Any) -> Formula:
    shown = plain(key, most=60)
    if not isinstance(value, str):
        raise Inexpressible(f"vms.{shown}: expected a text, found {plain(type(value).__name__)}")
    if key == "type":
        return Always(value == "VM")
    ours = _KEYS.get(key)
    if ours is None:
        raise Inexpressible(f"vms.{shown}: rules cannot ask for it")
    if not value or (ours == "power_state" and value not in POWER_STATES):
        raise Inexpressible(f"vms.{shown}: {plain(value, most=60)!r} is no value it can have")
    return Atom(ours, value)


def atoms(formula: Formula) -> Iterable[Atom]:
    """All of them, from left to right."""
    if isinstance(formula, Atom):
        yield formula
    elif isinstance(formula, Not):
        yield from atoms(formula.part)
    elif isinstance(formula, All | Some):
        for part in formula.parts:
            yield from atoms(part)


def decided(formula: Formula, decide: Callable[[Atom], bool | None]) -> Formula:
    """``formula`` where ``decide`` knows the answer to some atoms, simplified."""
    if isinstance(formula, Atom):
        answer = decide(formula)
        return formula if answer is None else Always(answer)
    if isinstance(formula, Not):
        part = decided(formula.part, decide)
        if isinstance(part, Always):
            return Always(not part.value)
        return part.part if isinstance(part, Not) else Not(part)
    if isinstance(formula, All | Some):
        return _simple(type(formula), [decided(part, decide) for part in formula.parts])
    return formula


def _simple(kind: type[All] | type[Some], parts: list[Formula]) -> Formula:
    ends = kind is Some  # one true member decides an "or", one false member an "and"
    found: list[Formula] = []
    for part in parts:
        if isinstance(part, Always):
            if part.value is ends:
                return part
        else:
            found.extend(part.parts if isinstance(part, kind) else (part,))
    if not found:
        return Always(not ends)
    return found[0] if len(found) == 1 else kind(tuple(found))


def rules_of(formula: Formula) -> tuple[list[Rule], list[Rule]]:
    """``include`` and ``exclude``; no include means that no VM fits. ``formula`` is simplified."""
    if isinstance(formula, Always):
        return ([{"name": "*"}] if formula.value else []), []
    included: list[Formula] = []
    excluded: list[Rule] = []
    for factor in _factors(formula):
        if isinstance(factor, Not):
            excluded += _conjunctions(factor.part)
        else:
            included.append(factor)
    include = _conjunctions(All(tuple(included))) if included else [{"name": "*"}]
    return include, excluded


def _factors(formula: Formula) -> list[Formula]:
    """The members of a conjunction, with negations as far inside as they make more members."""
    if isinstance(formula, All):
        return [factor for part in formula.parts for factor in _factors(part)]
    if isinstance(formula, Not) and isinstance(formula.part, Some):
        return [factor for part in formula.part.parts for factor in _factors(Not(part))]
    if isinstance(formula, Not) and isinstance(formula.part, Not):
        return _factors(formula.part.part)
    return [formula]


def _conjunctions(formula: Formula) -> list[Rule]:
    """A formula without negation as rules of which one must fit."""
    if isinstance(formula, Atom):
        return [{formula.key: glob.escape(formula.value) if formula.key == "name" else formula.value}]
    if isinstance(formula, Some):
        return _bounded(rule for part in formula.parts for rule in _conjunctions(part))
    if isinstance(formula, All):
        choices = [_conjunctions(part) for part in formula.parts]
        size = 1
        for choice in choices:
            size *= max(1, len(choice))
            if size > RULES_MAX:
                raise Inexpressible(f"vms: more than {RULES_MAX} rules would be needed")
        return _bounded(rule for rules in product(*choices) if (rule := _merged(rules)) is not None)
    raise Inexpressible("vms: a __not inside of an __or; rules can only leave out VMs from all that is chosen")


def _merged(rules: tuple[Rule, ...]) -> Rule | None:
    """All of them in one; ``None`` when no VM can fit."""
    merged: Rule = {}
    for rule in rules:
        for key, value in rule.items():
            if merged.setdefault(key, value) == value:
                continue
            if key == "tag":
                raise Inexpressible("vms.tags: two tags at once; a rule can ask for one")
            return None
    return {key: merged[key] for key in VmRule.model_fields if key in merged}


def _bounded(rules: Iterable[Rule]) -> list[Rule]:
    found: dict[tuple[tuple[str, str], ...], Rule] = {}
    for rule in rules:
        found[tuple(sorted(rule.items()))] = rule
        if len(found) > RULES_MAX:
            raise Inexpressible(f"vms: more than {RULES_MAX} rules would be needed")
    return list(found.values())
