"""The accounts of a server: users with passwords and programs with keys, as hashes in one file."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medsharp.errors import InputError, nearest
from medsharp.files import write_text
from serve.security.hashes import KEY_COST, PASSWORD_COST, Cost, ScryptHash

Kind = Literal["user", "key"]

_log = logging.getLogger(__name__)
_COST: Mapping[Kind, Cost] = {"user": PASSWORD_COST, "key": KEY_COST}
_KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHORTEST_PASSWORD = 8
_SHORTEST_SECRET = 16
_HEADER = "# Who may use the server; written by `medsharp access`. Hashes only: what was forgotten is made anew.\n"


@dataclass(frozen=True)
class Account:
    """One user or key; of its password or key there is the hash only."""

    kind: Kind
    name: str
    hash: ScryptHash = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.hash}"


def user(name: str, password: str, cost: Cost = PASSWORD_COST) -> Account:
    """Make a user.

    Raises:
        InputError: The name is empty, or has a colon or a space; or the password is empty.
    """
    if not name or not password or ":" in name or not name.isprintable() or any(map(str.isspace, name)):
        raise InputError(
            "the authentication must be user:password, with neither of them empty and no colon or space in the user"
        )
    return Account("user", name, ScryptHash.of(password.encode(), cost))


def new_key(name: str) -> tuple[Account, str]:
    """Make a key, and return its account and the key itself, which is nowhere else.

    Raises:
        InputError: The name has other characters than letters, digits, `-` and `_`.
    """
    _check_key_name(name)
    secret = secrets.token_urlsafe(32)
    return key(f"{name}.{secret}"), f"{name}.{secret}"


def key(text: str) -> Account:
    """Make the account of a key that is there already, `NAME.SECRET`.

    Raises:
        InputError: It is not of this form, or the secret is short enough to be guessed.
    """
    name, _, secret = text.partition(".")
    _check_key_name(name)
    if len(secret) < _SHORTEST_SECRET:
        raise InputError(f"the key {name} has a secret of {len(secret)} characters; give it {_SHORTEST_SECRET} or more")
    return Account("key", name, ScryptHash.of(secret.encode(), KEY_COST))


def _check_key_name(name: str) -> None:
    if not _KEY_NAME.fullmatch(name):
        raise InputError("a key is called by 1 to 64 letters, digits, - and _, before a dot and its secret")


def check_password(password: str) -> None:
    """Check that a password that a person chose is no short one.

    Raises:
        InputError: It is.
    """
    if len(password) < _SHORTEST_PASSWORD:
        raise InputError(f"the password has {len(password)} characters; take {_SHORTEST_PASSWORD} or more")


class Accounts:
    """Who may use a server: what was given when it started, and what its file holds now.

    The file is read again when it changes, so that a key that was removed is refused from then on. A file that is
    damaged then is not taken: what it held before goes on, and the log says so.

    Args:
        given: Accounts that are in no file.
        path: The file, or None.

    Raises:
        InputError: The file is missing, damaged or holds nobody, or a name stands twice.
    """

    def __init__(self, given: Iterable[Account] = (), path: str | Path | None = None) -> None:
        self._given = list(given)
        self._path = None if path is None else Path(path)
        self._seen = self._stamp()
        self._unread: tuple[int, ...] | None = None
        self._decoys: dict[Kind, ScryptHash] = {}
        self._accounts = self._read()
        if not self._accounts:
            raise InputError(f"{path} holds nobody; add somebody with medsharp access user or medsharp access key")

    def find(self, kind: Kind, name: str) -> ScryptHash | None:
        """Return the hash of an account, or None where there is no such one."""
        account = self._accounts.get((kind, name))
        return None if account is None else account.hash

    def decoy(self, kind: Kind) -> ScryptHash:
        """Return a hash that nothing matches, to check in place of one that is not there."""
        return self._decoys[kind]

    def kinds(self) -> frozenset[Kind]:
        """Return the kinds of accounts there are."""
        return frozenset(kind for kind, _ in self._accounts)

    def refresh(self) -> bool:
        """Read the file again where it was changed, and say whether other accounts hold now."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        try:
            self._accounts = self._read()
        except InputError as error:
            # Said once, and tried again: that no more files could be opened passes, and leaves the file as it is.
            if stamp != self._unread:
                _log.error("the accounts stay as they were: %s", error)
            self._unread = stamp
            return False
        self._seen, self._unread = stamp, None
        return True

    def _read(self) -> dict[tuple[Kind, str], Account]:
        accounts = [*self._given, *([] if self._path is None else read_accounts(self._path))]
        by_name = {(one.kind, one.name): one for one in accounts}
        if len(by_name) < len(accounts):
            known = [(one.kind, one.name) for one in accounts]
            kind, name = next(one for one in known if known.count(one) > 1)
            raise InputError(f"the {kind} {name} was given twice; give each name once, here or in the file of accounts")
        # A name that is unknown must cost as much as one that is known.
        costs = {one.kind: one.hash.cost for one in accounts}
        self._decoys = {kind: ScryptHash.nobodys(costs.get(kind, cost)) for kind, cost in _COST.items()}
        return by_name

    def _stamp(self) -> tuple[int, ...] | None:
        if self._path is None:
            return None
        try:
            status = os.stat(self._path)
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino


def read_accounts(path: Path) -> list[Account]:
    """Read a file of accounts: a line each, empty lines and those that begin with `#` left out.

    Raises:
        InputError: The file cannot be read, a line is none, or a name stands twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the accounts in {path}: {getattr(error, 'strerror', 'it is no text')}"
        ) from error
    accounts: dict[tuple[Kind, str], Account] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        account = _parse(line, f"{path}, line {number}")
        if (account.kind, account.name) in accounts:
            raise InputError(f"{path}, line {number}: the {account.kind} {account.name} stands twice")
        accounts[account.kind, account.name] = account
    return list(accounts.values())


def _parse(line: str, where: str) -> Account:
    parts = line.split()
    # The line itself is not repeated: somebody may have put a password there.
    if len(parts) != 3 or parts[0] not in _COST:
        raise InputError(f"{where}: it is not `user NAME HASH` or `key NAME HASH`; use medsharp access to write it")
    try:
        return Account("user" if parts[0] == "user" else "key", parts[1], ScryptHash.parse(parts[2]))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def add_account(path: Path, account: Account) -> bool:
    """Write an account to a file, which only its owner may read, and say whether it takes the place of one.

    Raises:
        InputError: The file is damaged or cannot be written.
    """
    accounts = read_accounts(path) if path.exists() else []
    others = [one for one in accounts if (one.kind, one.name) != (account.kind, account.name)]
    _write(path, [*others, account])
    return len(others) < len(accounts)


def remove_account(path: Path, name: str) -> list[Account]:
    """Take the user and the key of a name out of a file, and return them.

    Raises:
        InputError: There is none, or the file is damaged or cannot be written.
    """
    accounts = read_accounts(path)
    removed = [one for one in accounts if one.name == name]
    if not removed:
        raise InputError(f"{path} has nobody called {name}{nearest(name, [one.name for one in accounts])}")
    _write(path, [one for one in accounts if one.name != name])
    return removed


def _write(path: Path, accounts: Iterable[Account]) -> None:
    write_text(path, _HEADER + "".join(f"{account}\n" for account in accounts), private=True)
