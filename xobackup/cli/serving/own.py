"""The service backs up its own configuration and history: when it is time, in a quiet moment if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.cli.serving.duties import Duty

if TYPE_CHECKING:
    from xobackup.cli.logs import Lines
    from xobackup.cli.serving.works import Works
    from xobackup.clock import Clock

EVERY_S = 600.0


class OwnBackups:
    """What went wrong is in ``works.own_backup`` until it has gone well."""

    def __init__(self, works: Works, log: Lines, clock: Clock) -> None:
        self._works, self._log, self._clock = works, log, clock
        self.duty = Duty("own backup", self.look, every_s=EVERY_S)

    def look(self) -> None:
        """Make what is due."""
        from xobackup.cli.own_backup import back_up, last_made
        from xobackup.config.load import configuration_path

        configuration = self._works.configuration
        section = configuration.own
        now_s = self._clock.now_s()
        last = last_made(configuration.state_directory)
        ages = {name: now_s - last.get(name, float("-inf")) for name in section.remotes}
        due = tuple(name for name, age_s in ages.items() if not 0 <= age_s < section.every_s)
        if not due:
            self._works.own_backup = ""
            return
        if self._works.doing() and max(ages.values()) < section.every_s * 1.5:
            return  # when these runs have ended, what they did is in it
        made = back_up(configuration, configuration_path(self._works.path), self._clock, remotes=due)
        for one in made:
            if not one.problem:
                self._log(
                    "info", f"configuration and history backed up to {one.remote}: {one.stamp}", remote=one.remote
                )
        bad = [f"{one.remote}: {one.problem}" for one in made if one.problem]
        told = f"configuration and history were not backed up: {'; '.join(bad)}" if bad else ""
        if told and told != self._works.own_backup:  # once, not every ten minutes
            self._log("error", told)
        self._works.own_backup = told
