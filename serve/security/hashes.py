"""Hashes of passwords and keys: scrypt, in the PHC string format that other programs read too."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from dataclasses import dataclass

from medsharp.errors import InputError

_FORM = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{16,86})\$([A-Za-z0-9+/]{22,86})")
_SALT_BYTES, _HASH_BYTES = 16, 32
_MOST_MEMORY = 256 * 2**20


@dataclass(frozen=True)
class Cost:
    """What scrypt costs: `128 * r * 2**ln` bytes of memory, and time in proportion to that times `p`."""

    ln: int
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.ln <= 20 and 1 <= self.r <= 32 and 1 <= self.p <= 32 and self.memory <= _MOST_MEMORY):
            raise InputError(f"scrypt with ln={self.ln},r={self.r},p={self.p} costs nothing or far too much")

    @property
    def memory(self) -> int:
        """Bytes that one check needs."""
        return 128 * self.r * 2**self.ln


PASSWORD_COST = Cost(15, 8, 3)
"""As OWASP's Password Storage Cheat Sheet has it, where 32 MiB may be used: a person's password can be guessed."""

KEY_COST = Cost(14, 8, 1)
"""A key of 256 random bits cannot be guessed, at whatever cost."""


@dataclass(frozen=True)
class ScryptHash:
    """The hash of one password or key."""

    cost: Cost
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, secret: bytes, cost: Cost) -> ScryptHash:
        """Hash a secret with a salt of its own."""
        salt = os.urandom(_SALT_BYTES)
        return cls(cost, salt, _scrypt(secret, salt, cost, _HASH_BYTES))

    @classmethod
    def nobodys(cls, cost: Cost) -> ScryptHash:
        """Return a hash of no secret, which costs as much to check: an unknown name takes as long as a known one."""
        return cls(cost, os.urandom(_SALT_BYTES), os.urandom(_HASH_BYTES))

    @classmethod
    def parse(cls, text: str) -> ScryptHash:
        """Read a hash.

        Raises:
            InputError: It is none.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise InputError("the hash is not of the form $scrypt$ln=..,r=..,p=..$salt$hash")
        ln, r, p, salt, digest = match.groups()
        try:
            return cls(Cost(int(ln), int(r), int(p)), _decode(salt), _decode(digest))
        except binascii.Error as error:
            raise InputError("the salt or the hash is not in base64") from error

    def __str__(self) -> str:
        cost = f"ln={self.cost.ln},r={self.cost.r},p={self.cost.p}"
        return f"$scrypt${cost}${_encode(self.salt)}${_encode(self.digest)}"

    def matches(self, secret: bytes) -> bool:
        """Say whether it is the hash of a secret; how long that takes says nothing of either."""
        return hmac.compare_digest(_scrypt(secret, self.salt, self.cost, len(self.digest)), self.digest)


def _scrypt(secret: bytes, salt: bytes, cost: Cost, length: int) -> bytes:
    # OpenSSL wants some room beside the table.
    memory = cost.memory + 128 * cost.r * cost.p + 2**20
    return hashlib.scrypt(secret, salt=salt, n=2**cost.ln, r=cost.r, p=cost.p, maxmem=memory, dklen=length)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
