"""Who a request is from: users by HTTP basic authentication, programs by a key, both against hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import math
import secrets
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serve.security.access import Access
from serve.security.accounts import Accounts, Kind
from serve.security.throttle import Remembered, Throttle

_REMEMBERED_SECONDS = 300.0
_MOST_REMEMBERED = 1024
_KNOWN_SECONDS = 86_400.0
_MOST_AT_ONCE = 64
_LONGEST_CREDENTIAL = 4096
_REFRESH_SECONDS = 1.0


class RefusedError(Exception):
    """A request that is not let in.

    Attributes:
        status: 401, or 429 after too many failed attempts.
        headers: That go with it.
    """

    def __init__(self, status: int, sentence: str, headers: list[tuple[str, str]]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class _Credential:
    kind: Kind
    name: str
    secret: bytes


class _Attempt:
    """The check of one credential, which all requests share that bring it meanwhile."""

    def __init__(self) -> None:
        self.waiting = 0
        self.result: bool | None = None


class Login:
    """Checks names, passwords and keys.

    scrypt is slow by design, so a credential that was right is remembered for some minutes, by a keyed hash of it that
    is worth nothing outside this process; and all checks are made one after another in a thread, so that a storm of
    wrong ones takes one core and one table of memory, while others are answered.

    Wrong credentials are counted by address and name (5, then one in 30 s), by address (20, then one in 10 s) and by
    name (50, then one a minute); right ones are not. Beyond that the answer is 429, and nothing is checked. A
    credential that is remembered is let in whatever others do, and where a name was right before, from the same
    address, only its own failures there count: so nobody locks out who works.

    Args:
        accounts: Who may log in.
        clock: Tells the time in seconds.
    """

    def __init__(self, accounts: Accounts, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = accounts
        self._clock = clock
        self._tag_key = secrets.token_bytes(32)
        self._right = Remembered(_MOST_REMEMBERED, clock)
        self._known = Remembered(_MOST_REMEMBERED, clock)
        self._by_both = Throttle(5, 30.0, clock)
        self._by_address = Throttle(20, 10.0, clock)
        self._by_name = Throttle(50, 60.0, clock)
        # Names that do not exist have a book of their own, so that they push none that does out of it.
        self._by_unknown_name = Throttle(50, 60.0, clock)
        self._attempts: dict[bytes, _Attempt] = {}
        self._refreshed = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="medsharp-login")

    async def who(self, authorization: str | None, address: str | None) -> Access:
        """Return who brings a credential.

        Args:
            authorization: The header.
            address: Of the client.

        Raises:
            RefusedError: There is none, it is wrong, or too many were.
        """
        self._refresh()
        credential = _read(authorization)
        if credential is None:
            raise self._unknown("log in: user and password, or a key, are needed")
        tag = self._tag(credential)
        if tag not in self._right:
            await self._check(credential, tag, _network(address))
        return Access(credential.name, "password" if credential.kind == "user" else "key", address=address)

    async def _check(self, credential: _Credential, tag: bytes, network: str) -> None:
        attempt = self._attempts.get(tag)
        books = self._books(credential, network)
        counted = attempt is None
        if attempt is None:
            seconds = max(book.wait(who) for book, who in books)
            if seconds > 0 or len(self._attempts) >= _MOST_AT_ONCE:
                raise _too_often(max(seconds, 1.0))
            attempt = self._attempts[tag] = _Attempt()
            # Counted before it fails, lest a thousand be tried in the time that one takes.
            _take(books)
        attempt.waiting += 1
        try:
            is_right = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._matches, credential, attempt
            )
        finally:
            attempt.waiting -= 1
            if attempt.waiting == 0:
                self._attempts.pop(tag, None)
        if not is_right:
            if not counted:
                _take(books)
            raise self._unknown("the user, the password or the key is wrong")
        if counted:
            for book, who in books:
                book.give_back(who)
        self._right.add(tag, _REMEMBERED_SECONDS)
        self._known.add((network, credential.kind, credential.name), _KNOWN_SECONDS)

    def _matches(self, credential: _Credential, attempt: _Attempt) -> bool:
        if attempt.result is None:
            stored = self._accounts.find(credential.kind, credential.name)
            checked = stored or self._accounts.decoy(credential.kind)
            is_match = checked.matches(credential.secret)
            attempt.result = is_match and stored is not None
        return attempt.result

    def _books(self, credential: _Credential, network: str) -> list[tuple[Throttle, Hashable]]:
        name = (credential.kind, credential.name)
        both = (network, *name)
        books: list[tuple[Throttle, Hashable]] = [(self._by_both, both)]
        if both not in self._known:
            by_name = self._by_unknown_name if self._accounts.find(*name) is None else self._by_name
            books += [(self._by_address, network), (by_name, name)]
        return books

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            if self._accounts.refresh():
                self._right.clear()
                self._known.clear()

    def _tag(self, credential: _Credential) -> bytes:
        text = b"\0".join((credential.kind.encode(), credential.name.encode(), credential.secret))
        return hmac.digest(self._tag_key, text, "sha256")

    def _unknown(self, sentence: str) -> RefusedError:
        kinds = self._accounts.kinds()
        challenges = []
        if "user" in kinds:
            challenges.append(("WWW-Authenticate", 'Basic realm="medsharp", charset="UTF-8"'))
        if "key" in kinds:
            challenges.append(("WWW-Authenticate", 'Bearer realm="medsharp"'))
        return RefusedError(401, sentence, challenges)


def _take(books: list[tuple[Throttle, Hashable]]) -> None:
    for book, who in books:
        book.take(who)


def _too_often(seconds: float) -> RefusedError:
    wait = math.ceil(seconds)
    return RefusedError(429, f"too many attempts to log in failed; try again in {wait} s", [("Retry-After", str(wait))])


def _read(authorization: str | None) -> _Credential | None:
    """Read the header of a request; None where it brings nothing that could be right."""
    if authorization is None or len(authorization) > _LONGEST_CREDENTIAL:
        return None
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    try:
        if scheme.lower() == "basic":
            name, colon, secret = base64.b64decode(token, validate=True).partition(b":")
            return _Credential("user", name.decode("utf-8"), secret) if colon and name and secret else None
        if scheme.lower() == "bearer":
            name_text, dot, secret_text = token.partition(".")
            is_key = bool(dot and name_text and secret_text)
            return _Credential("key", name_text, secret_text.encode()) if is_key else None
    except (binascii.Error, UnicodeError, ValueError):
        return None
    return None


def _network(address: str | None) -> str:
    """Return what of an address stands for one client: of IPv6, where one has many, the network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
