"""How a server is secured: who may ask, by which names, behind which proxies, and what is written of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsharp.errors import InputError
from serve.security.accounts import Account, Accounts, key, user
from serve.security.audit import AuditLog
from serve.security.hashes import KEY_COST
from serve.security.hosts import allowed_hosts, is_loopback
from serve.security.login import Login
from serve.security.proxies import trusted_proxies

AUTH_VARIABLE = "MEDSHARP_AUTH"
KEYS_VARIABLE = "MEDSHARP_API_KEYS"


@dataclass(frozen=True)
class Security:
    """How an application is secured.

    Attributes:
        login: Checks who asks; None lets everybody in.
        hosts: Names by which it may be asked beside those of loopback; None for any name.
        proxies: Addresses and networks of proxies whose word on the client is taken.
        audit: Where it is written what was answered, or None.
    """

    login: Login | None = None
    hosts: frozenset[str] | None = None
    proxies: tuple[str, ...] = ()
    audit: AuditLog | None = None


def secure(
    host: str,
    *,
    auth: tuple[str, str] | str | None = None,
    accounts: Sequence[Account] | None = None,
    access: str | Path | None = None,
    hosts: Sequence[str] = (),
    proxies: Sequence[str] = (),
    audit: str | Path | None = None,
    audit_key: str | Path | None = None,
    audit_addresses: bool = False,
) -> Security:
    """Check the settings of a server, and open what they name.

    Args:
        host: Address that it listens at. Any but loopback needs somebody who may log in; at loopback, only the names
            of loopback and those of `hosts` are answered.
        auth: User and password, as a pair or as `user:password`; otherwise from the environment's `MEDSHARP_AUTH`.
            Keys in the clear come from `MEDSHARP_API_KEYS`, `NAME.SECRET` with spaces between several.
        accounts: In place of `auth` and the environment.
        access: File of accounts, see `serve.security.accounts`.
        hosts: Other names by which it is asked.
        proxies: See `Security`.
        audit: File of the audit log.
        audit_key: File whose bytes are the key for hashes in the audit log.
        audit_addresses: Write the clients' addresses there.

    Raises:
        InputError: One of them is wrong, or nobody could log in where others can reach the server.
    """
    given = given_accounts(auth) if accounts is None else list(accounts)
    login = Login(Accounts(given, access)) if given or access is not None else None
    if login is None and not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, so a password is needed: "
            f"give --auth user:password or --access FILE, or set {AUTH_VARIABLE} or {KEYS_VARIABLE}"
        )
    if audit is None and (audit_key is not None or audit_addresses):
        raise InputError("--audit-key and --audit-addresses say how --audit-log is written; give that too")
    names = allowed_hosts(hosts)
    behind = trusted_proxies(proxies)
    log = None
    if audit is not None:
        log = AuditLog(audit, key=_read_key(audit_key), addresses=audit_addresses)
    return Security(login, names if names or is_loopback(host) else None, behind, log)


def with_password(auth: tuple[str, str] | str) -> Security:
    """Return the security of an application with one user and nothing else.

    Raises:
        InputError: The user or the password cannot be used.
    """
    return Security(Login(Accounts([_user(auth)])))


def parse_auth(auth: tuple[str, str] | str | None) -> tuple[str, str] | None:
    """Split `user:password`; the password may hold colons.

    Raises:
        InputError: There is no colon, or the user or the password is empty.
    """
    if not auth:
        return None
    name, _, password = auth.partition(":") if isinstance(auth, str) else (auth[0], ":", auth[1])
    if not name or not password or ":" in name:
        raise InputError("the authentication must be user:password, with neither of them empty")
    return name, password


def given_accounts(auth: tuple[str, str] | str | None) -> list[Account]:
    """Return the accounts, hashes alone, of what is given as for `secure`, or in the environment.

    Raises:
        InputError: A name, password or key cannot be used.
    """
    auth = auth or os.environ.get(AUTH_VARIABLE) or None
    keys = [one for one in re.split(r"[\s,]+", os.environ.get(KEYS_VARIABLE, "")) if one]
    try:
        accounts = [key(one) for one in keys]
    except InputError as error:
        raise InputError(f"{KEYS_VARIABLE}: {error}") from error
    return accounts if auth is None else [_user(auth), *accounts]


def _user(auth: tuple[str, str] | str) -> Account:
    pair = parse_auth(auth)
    if pair is None:
        raise InputError("the authentication must be user:password, with neither of them empty")
    # Its hash is never written anywhere, so that a costly one would protect nothing.
    return user(*pair, cost=KEY_COST)


def _read_key(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes().strip()
    except OSError as error:
        raise InputError(f"cannot read the key of the audit log in {path}: {error.strerror}") from error
