"""The hooks of a run as a whole: before everything else is opened, and after everything else is over.

``before-run`` may mount or wake what the run needs; ``after-run`` undoes that, so it is run whenever ``before-run``
had its turn, also when that failed, when the run is stopped, and when it ends by an error nobody expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Cancelled, HookFailed, Outcome
from xobackup.engine.hooks.facts import Facts
from xobackup.engine.hooks.hook import HookResult, When
from xobackup.engine.hooks.running import run_hooks

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.world import World


class RunHooks:
    """One run's."""

    def __init__(self, job: Job, world: World, run_id: str) -> None:
        self._hooks = job.hooks
        self._world = world
        self._facts = Facts(job=job.name, job_id=job.id, run=run_id, pool=" ".join(pool.name for pool in job.pools))
        self.results: list[HookResult] = []
        self.problems: list[str] = []
        """What their failures mean for the run."""

    def before(self) -> bool:
        """Whether the run may begin."""
        try:
            self._run(When.BEFORE_RUN, self._facts)
        except Cancelled:
            return False
        return not self.problems

    def after(self, outcome: Outcome, problems: Iterable[str]) -> None:
        """``problems``: what concerned no single VM."""
        told = "; ".join(problems)
        facts = self._facts.of(outcome=outcome.value, error=told)
        if told and outcome is not Outcome.CANCELLED:
            self._run(When.ON_FAILURE, facts)
        self._run(When.AFTER_RUN, facts)

    def _run(self, when: When, facts: Facts) -> None:
        try:
            run_hooks(self._world, self._hooks, when, facts, cancel=self._world.cancel, results=self.results)
        except HookFailed as error:
            self.problems.append(str(error))
            self._world.journal.write(events.Failed(error=str(error), error_class=type(error).__name__))
