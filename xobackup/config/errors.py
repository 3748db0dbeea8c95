"""What can be wrong with a configuration.

ConfigError          what is wrong, in which file, at which key
└── SecretError      a secret's environment variable, file or command does not give it
"""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` has one sentence each, naming file and key."""

    def __init__(self, problems: list[str], hint: str | None = None) -> None:
        self.problems = tuple(problems)
        self.hint = hint
        super().__init__("\n".join(problems))


class SecretError(ConfigError):
    """A secret cannot be read from where the configuration says it is."""

    def __init__(self, key: str, problem: str, hint: str | None = None) -> None:
        self.key = key
        super().__init__([f"{key}: {problem}"], hint)
