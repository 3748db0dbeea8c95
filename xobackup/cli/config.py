"""``xobackup config``: is the configuration good, and what does it say?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli import jobs
from xobackup.cli.mirror_jobs import mirror_job
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.config.model import Configuration

app = typer.Typer(no_args_is_help=True, help="Check the configuration.")


@app.command()
def check(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="Also read every secret.")] = False,
) -> None:
    """Read the configuration and its drop-ins and say what they define. Touches no pool and no remote."""
    from remotes.url import parse_url
    from xobackup.cli.hooks import hook_problems
    from xobackup.config.buckets import bucket_url
    from xobackup.config.errors import ConfigError
    from xobackup.config.load import configuration_path, files_of
    from xobackup.config.secret_places import key_text, secrets_of
    from xobackup.config.secrets import resolve
    from xobackup.engine.hooks.hook import hook_data

    configuration = read_configuration(config)
    problems: list[str] = []
    from remotes.errors import InvalidUrl

    for name, remote in configuration.remotes.items():
        try:
            parse_url(bucket_url(remote.url, remote, f"remotes.{name}", with_secrets=False))
        except InvalidUrl as error:
            problems.append(f"remotes.{name}.url: {error}")
    problems.extend(hook_problems(configuration))
    if secrets:
        for at, secret in secrets_of(configuration):
            try:
                resolve(secret, key_text(at))
            except ConfigError as error:
                problems.extend(error.problems)
        for name in configuration.remotes:
            try:
                jobs.remote_target(configuration, name)
            except ConfigError as error:
                problems.extend(one for one in error.problems if one not in problems)
    if problems:
        raise ConfigError(problems)
    output = Output(as_json=as_json)
    files = [str(file) for file in files_of(configuration_path(config))]
    for name in configuration.job_names:
        built = jobs.job_of(configuration, name, with_secrets=False)
        output.record(
            "job",
            {
                "name": name,
                "id": str(built.id),
                "schedule_id": str(built.schedule_id),
                "mode": built.settings.mode,
                "pool": built.pools[0].name,
                "pools": [pool.name for pool in built.pools],
                "remotes": [remote.name for remote in built.remotes],
                "retention": built.settings.retention,
                "keeps": str(built.settings.rule),
                "hooks": [hook_data(hook) for hook in built.hooks],
                "consistent": None if built.consistent is None else asdict(built.consistent),
            },
        )
    _record_mirrors(output, configuration)
    names = {
        "pools": sorted(configuration.pools),
        "remotes": sorted(configuration.remotes),
        "jobs": sorted(configuration.all_job_names),
    }
    output.record("configuration", {"files": files, **names})
    output.say(f"{', '.join(files)}: good")
    for key, value in names.items():
        output.say(f"  {key}: {', '.join(value) or 'none'}")


def _record_mirrors(output: Output, configuration: Configuration) -> None:
    for name in configuration.mirror_jobs:
        mirror = mirror_job(configuration, name, with_secrets=False)
        output.record(
            "job",
            {
                "name": name,
                "id": mirror.id,
                "mode": "mirror",
                "source": mirror.source.name,
                "remotes": list(mirror.destinations),
                "keeps": "everything" if mirror.rule is None else str(mirror.rule),
            },
        )
