"""The secrets of masks: read from the environment, a file or a command, each once, when a table first needs it.

What is read is kept for as long as the process runs; what could not be read is looked for again by whoever asks two
seconds later or more. No error says anything of a secret.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path

from schemas.config import MaskKey, MasksConfig
from schemas.errors import ConfigurationError, TableStopped
from schemas.mask import ENCRYPT
from schemas.masked import key_of, keys_of, masks_of
from schemas.table import TableEntry, TableSpec
from streams.mask_values import ENCODED, Cipher, id_of, replaced

SECRET_BYTES_MIN, SECRET_BYTES_MAX = 32, 4_096
AGAIN_SECONDS = 2.0  # a table that stops asks for its keys, and so does each record that is put back
MISSING, CHANGED = "mask_key_missing", "mask_key_changed"
_MAKE_ONE = "make one with `openssl rand -hex 32`"


class MaskKeys:
    """The keys of one configuration; any thread may ask."""

    def __init__(
        self,
        config: MasksConfig,
        environment: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet; `environment` is that of the process unless it is handed in."""
        self._config, self._environment, self._clock = config, environment, clock
        self._read: dict[str, bytes] = {}
        self._failed: dict[str, tuple[float, ConfigurationError]] = {}
        self._ciphers: dict[bytes, Cipher] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names of the keys there are."""
        return sorted(self._config.keys)

    def secret(self, name: str) -> bytes:
        """Return the secret that hashes and tokens of a key are made with.

        Raises:
            ConfigurationError: the configuration has no such key, or its secret cannot be read.
        """
        return self._secret(name, self._key(name).secret)

    def ciphers(self, name: str) -> list[Cipher]:
        """Return what encrypts with a key, first, and what else decrypts; raises what `secret` does."""
        key = self._key(name)
        ciphers = [self._cipher(self._secret(name, each)) for each in key.encrypt or [key.secret]]
        ciphers[0].ready()
        return ciphers

    def cipher(self, name: str) -> Cipher:
        """Return what encrypts with a key; raises what `secret` does."""
        return self.ciphers(name)[0]

    def decrypted(self, text: str, *, written: Callable[[str], str] = str) -> str:
        """Return a text with all in it replaced that one of the keys encrypted, each as `written` writes it."""
        by_id = self._by_id

        def clear_of(key_id: str, code: str) -> str | None:
            clear = by_id[key_id].decrypted(code) if key_id in by_id else None
            return None if clear is None else written(clear)

        return replaced(text, clear_of)

    def count_encrypted(self, text: str) -> int:
        """Return how many encrypted values stand in a text."""
        return len(ENCODED.findall(text))

    def opening(self, name: str, key_id: str) -> Cipher | None:
        """Return what opens what a key sealed, None where the configuration has it no more, or it cannot be read."""
        return self._of_key(name).get(key_id) if name in self._config.keys else None

    @cached_property
    def _by_id(self) -> dict[str, Cipher]:
        return {key_id: cipher for name in self.names for key_id, cipher in self._of_key(name).items()}

    def _of_key(self, name: str) -> dict[str, Cipher]:
        """Return what a key decrypts with, by id, `secret` included; without what cannot be read."""
        key, found = self._config.keys[name], dict[str, Cipher]()
        for reference in dict.fromkeys([*key.encrypt, key.secret]):
            try:
                cipher = self._cipher(self._secret(name, reference))
            except ConfigurationError:  # the others may be enough; `headgate masks keys` says which is missing
                continue
            found[cipher.id] = cipher
        return found

    def _cipher(self, secret: bytes) -> Cipher:
        if secret not in self._ciphers:
            self._ciphers[secret] = Cipher(secret)
        return self._ciphers[secret]

    def stop_of(self, entry: TableEntry) -> TableStopped | None:
        """Return why a table cannot be masked as it was begun, None if it can."""
        table = entry.spec.table
        try:
            for name in sorted(keys_of(entry.spec)):
                self.secret(name)
            for mask in masks_of(entry.spec).values():
                if mask.how == ENCRYPT:
                    self.cipher(key_of(entry.spec, mask))
            now = self.pinned(entry.spec)
        except ConfigurationError as error:
            return TableStopped(MISSING, f"{table}: {error.message}", hint=error.hint)
        if another := sorted(name for name, key_id in now.items() if entry.mask_keys.get(name, key_id) != key_id):
            return TableStopped(
                CHANGED,
                f"{table}: the secret of mask key {another[0]!r} is not the one that its hashes and tokens began with",
                hint="put it back; a new secret is a new key of its own name, which `masks.key` of the spec then names",
            )
        return None

    def pinned(self, spec: TableSpec) -> dict[str, str]:
        """Return by name the ids of the keys that a table's hashes and tokens need; raises what `secret` does."""
        return {name: id_of(self.secret(name)) for name in sorted(keys_of(spec, pinned=True))}

    def _key(self, name: str) -> MaskKey:
        if name not in self._config.keys:
            known = ", ".join(self.names[:20]) or "none"
            raise ConfigurationError(
                f"the configuration has no mask key {name!r}", hint=f"name it under masks.keys; there are: {known}"
            )
        return self._config.keys[name]

    def _secret(self, name: str, reference: str) -> bytes:
        with self._lock:
            if reference not in self._read:
                until, error = self._failed.get(reference, (0.0, None))
                if error is not None and self._clock() < until:
                    raise ConfigurationError(error.message, hint=error.hint)
                try:
                    self._read[reference] = self._look_up(name, reference)
                except ConfigurationError as exc:
                    self._failed[reference] = self._clock() + AGAIN_SECONDS, exc
                    raise
            return self._read[reference]

    def _look_up(self, name: str, reference: str) -> bytes:
        kind, _, what = reference.partition(":")
        environment = os.environ if self._environment is None else self._environment
        match kind:
            case "env":
                found = environment.get(what, "").encode("utf-8", "surrogateescape")
                where = f"the variable {what}"
            case "file":
                found, where = _of_file(name, Path(what)), f"the file {what}"
            case _:
                found, where = self._of_command(name, what), "what its command prints"
        found = found.strip()
        if not SECRET_BYTES_MIN <= len(found) <= SECRET_BYTES_MAX:
            why = "is empty or not there" if not found else f"has {len(found)} bytes"
            raise ConfigurationError(
                f"mask key {name!r}: {where} {why}",
                hint=f"a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes: {_MAKE_ONE}",
            )
        return found

    def _of_command(self, name: str, command: str) -> bytes:
        """Return what a command prints; it is run without a shell, and what it says of errors is its own."""
        seconds = self._config.timeout_seconds
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own configuration says what is run
                shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
            )
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"mask key {name!r}: its command cannot be run: {type(exc).__name__}",
                hint="it is run without a shell: name the program and its arguments",
            ) from None
        except subprocess.TimeoutExpired:
            raise ConfigurationError(
                f"mask key {name!r}: its command did not end within {seconds:g} seconds",
                hint="does the secret manager answer? masks.timeout_seconds is how long it is waited for",
            ) from None
        if done.returncode != 0:
            raise ConfigurationError(
                f"mask key {name!r}: its command ended with {done.returncode}",
                hint="run it by hand as this user: it must print the secret and nothing else",
            )
        return done.stdout


def _of_file(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SECRET_BYTES_MAX + 1_024)
    except OSError as exc:
        raise ConfigurationError(
            f"mask key {name!r}: {path} cannot be read: {type(exc).__name__}",
            hint="is it mounted, and may this user read it?",
        ) from None


@lru_cache(maxsize=8)
def _kept(text: str) -> MaskKeys:
    return MaskKeys(MasksConfig.model_validate_json(text))


def mask_keys_of(config: MasksConfig) -> MaskKeys:
    """Return the keys of a configuration, for one process the same: a command is run once, not for each that asks."""
    return _kept(config.model_dump_json())


def pinned_for(
    keys: MaskKeys, specs: Iterable[TableSpec], registered: Mapping[str, TableEntry]
) -> dict[str, dict[str, str]]:
    """Return by table what `TableEntry.mask_keys` must be.

    Raises:
        ConfigurationError: a key is missing, or its secret is not the one that a registered table was begun with.
    """
    found: dict[str, dict[str, str]] = {}
    for spec in specs:
        begun = registered[spec.table].mask_keys if spec.table in registered else {}
        if (stop := keys.stop_of(TableEntry(spec=spec, mask_keys=begun))) is not None:
            raise ConfigurationError(stop.message, hint=stop.hint)
        found[spec.table] = keys.pinned(spec)
    return found
