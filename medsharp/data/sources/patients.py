"""Patients by number: a keyed hash of what a hospital calls them, the same in every export of that hospital."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from medsharp.errors import InputError
from medsharp.keys import patient_key

KEY_VARIABLE = "MEDSHARP_PATIENT_KEY"
"""Environment variable that names the file of the key."""

_LEAST_BYTES = 16
_DIGITS = 16


@dataclass(frozen=True)
class PatientKey:
    """What turns identifiers into numbers; it is read, or made, when the first is needed.

    Whoever has the key can test which number an identifier has: it is kept where the identifiers are kept.

    Attributes:
        file: Of the key; by default what `MEDSHARP_PATIENT_KEY` names, else `medsharp/patients.key` in
            `$XDG_CONFIG_HOME` or `~/.config`, which is made at the first use, for its owner only.
    """

    file: Path | None = None
    _given: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def number(self, identifier: str) -> str:
        """Return the number of a patient: `P` and 16 hexadecimal digits of HMAC-SHA256; empty for no identifier.

        Args:
            identifier: As the hospital writes it; what `medsharp.keys.patient_key` takes for one has one number.

        Raises:
            InputError: The key cannot be read or made.
        """
        plain = patient_key(identifier)
        if not plain:
            return ""
        # The letter keeps spreadsheets from reading digits as a number.
        number = f"P{self._keyed(plain.encode())}"
        self._given.add(number)
        return number

    def gave(self, number: str) -> bool:
        """Whether it has given this number since it was read: of others nobody can tell which key they are of."""
        return number in self._given

    def digest(self, path: str) -> str:
        """Return 16 hexadecimal digits of the HMAC-SHA256 of a path as it is written: case, zeros and blanks count.

        Raises:
            InputError: The key cannot be read or made.
        """
        return self._keyed(b"path:" + path.encode())

    def _keyed(self, text: bytes) -> str:
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:_DIGITS]

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell keys apart and give nothing of them away."""
        return hashlib.sha256(b"fingerprint:" + self._secret).hexdigest()[:8]

    @property
    def is_used(self) -> bool:
        """Whether anything was numbered with it."""
        return "_secret" in self.__dict__

    @property
    def where(self) -> Path:
        """The file of the key."""
        given = self.file or os.environ.get(KEY_VARIABLE)
        if given:
            return Path(given)
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(config) / "medsharp" / "patients.key"

    @cached_property
    def _secret(self) -> bytes:
        path = self.where
        try:
            if not path.exists() and self.file is None and not os.environ.get(KEY_VARIABLE):
                _make(path)
            secret = path.read_bytes().strip()
        except OSError as error:
            raise InputError(
                f"cannot read or make the key that numbers patients, {path}: {error.strerror}; make one "
                f"(openssl rand -hex 32) and name it with --key or {KEY_VARIABLE}"
            ) from error
        if len(secret) < _LEAST_BYTES:
            raise InputError(f"the key in {path} is shorter than {_LEAST_BYTES} bytes; make one: openssl rand -hex 32")
        return secret


def _make(path: Path) -> None:
    """Write a new key for its owner only; of several processes that do so at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # which, other than renaming, never replaces a key
    finally:
        temporary.unlink()
