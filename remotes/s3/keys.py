"""Names of objects and keys in the bucket: below one prefix, and back."""

from __future__ import annotations

from remotes import names
from remotes.errors import InvalidName

KEY_BYTES_MAX = 1024


class Keys:
    """``prefix`` is that of every key, without slashes around it; ``url`` names the remote in errors."""

    def __init__(self, prefix: str, url: str) -> None:
        self._root = f"{prefix}/" if prefix else ""
        self._url = url

    def key(self, name: str) -> str:
        """The key of an object. Raises :class:`InvalidName`."""
        names.validate(name, remote=self._url)
        key = self._root + name
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise InvalidName(self._url, name, "the name is not UTF-8, which a key must be") from None
        if length > KEY_BYTES_MAX:
            raise InvalidName(self._url, name, f"expected a key of at most {KEY_BYTES_MAX} bytes, found {length}")
        return key

    def below(self, directory: str) -> str:
        """What all keys in a directory (``""``: the root) begin with."""
        return f"{self.key(directory)}/" if directory else self._root

    def name(self, key: str) -> str:
        """The name of an object whose key is below the root."""
        return key[len(self._root) :]
