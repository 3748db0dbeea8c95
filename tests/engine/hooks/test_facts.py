"""What hooks are told: whatever a VM is called, a program can be started with it."""

import json
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from xobackup.engine.hooks.facts import VALUE_CHARACTERS_MAX, Facts, as_data, environment, variables
from xobackup.engine.hooks.said import last_lines


def test_every_fact_is_always_there() -> None:
    names = "HOOK JOB JOB_ID RUN POOL VM_UUID VM_NAME OUTCOME ERROR POINTS GROUP ATTEMPT"
    assert set(variables(Facts())) == {f"XOBACKUP_{name}" for name in names.split()}


def test_what_an_outer_run_had_set_is_gone() -> None:
    made = environment(Facts(job="inner"), {"XOBACKUP_VM_NAME": "outer", "XOBACKUP_OTHER": "x", "HOME": "/root"})
    assert made["XOBACKUP_VM_NAME"] == "" and "XOBACKUP_OTHER" not in made and made["HOME"] == "/root"


@given(st.text(st.characters()))
def test_any_name_can_be_carried(name: str) -> None:
    value = variables(Facts(vm_name=name))["XOBACKUP_VM_NAME"]
    value.encode()
    assert "\0" not in value and len(value) <= VALUE_CHARACTERS_MAX
    assert json.loads(json.dumps(as_data(Facts(vm_name=name))))["vm_name"] is not None


def test_the_nastiest_names_start_a_program() -> None:
    for name in ("\0", "\ud800", "x" * 1_000_000, "a\nXOBACKUP_JOB=evil", "=", "$(id)"):
        made = environment(Facts(vm_name=name, job="good"), {})
        told = subprocess.run(["/usr/bin/env", "-0"], env=made, capture_output=True, check=True).stdout.split(b"\0")
        assert b"XOBACKUP_JOB=good" in told


@given(st.binary(max_size=400))
def test_what_a_hook_said_is_one_printable_line(output: bytes) -> None:
    assert last_lines(output).isprintable()
