"""By which names a server may be asked, and from whose pages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from medsharp.errors import InputError

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NAME = re.compile(r"[a-z0-9_.:-]+")
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(names: Iterable[str]) -> frozenset[str]:
    """Check names by which a server may be asked, without ports, and return them in small letters.

    Raises:
        InputError: One holds something else, such as a scheme or a port.
    """
    checked = set()
    for name in names:
        parsed = _split(name)
        if parsed is None or parsed[1] is not None or not _NAME.fullmatch(parsed[0]):
            raise InputError(f"--allowed-host {name}: give the name alone, such as ward.example.org")
        checked.add(parsed[0])
    return frozenset(checked)


def is_known_host(header: str | None, names: frozenset[str]) -> bool:
    """Say whether a request's `Host` is this machine's loopback or one of `names`.

    A page of somebody else's may have its own name point to this machine (DNS rebinding), and would then be asked by
    that name. A browser always sends it; what sends none is no browser.
    """
    if header is None:
        return True
    parsed = _split(header)
    return parsed is not None and (is_loopback(parsed[0]) or parsed[0] in names)


def is_foreign(
    method: str, scheme: str, host: str | None, origin: str | None, site: str | None, names: frozenset[str]
) -> bool:
    """Say whether a page of another origin sends a request that may change something or cost something.

    Browsers add passwords that they remember to such requests, too, and send those to a loopback address.

    Args:
        method: Of the request.
        scheme: `http` or `https`, as the client sees it.
        host: The header `Host`.
        origin: The header `Origin`; programs send none.
        site: The header `Sec-Fetch-Site`.
        names: By which the server may be asked beside `host`, at its standard ports.
    """
    if method in _SAFE_METHODS:
        return False
    if origin is None:
        return site in ("cross-site", "same-site")
    try:
        parsed = urlsplit(origin)
        given = (parsed.hostname or "", parsed.port or _PORTS.get(parsed.scheme, 0))
    except ValueError:
        return True
    if parsed.scheme not in _PORTS or (scheme == "https" and parsed.scheme == "http"):
        return True
    own = None if host is None else _split(host)
    if own is not None and given == (own[0], own[1] or _PORTS[parsed.scheme]):
        return False
    return not (given[0].rstrip(".") in names and given[1] == _PORTS[parsed.scheme])


def _split(header: str) -> tuple[str, int | None] | None:
    """Split a host and its port; None where it is no host."""
    try:
        parsed = urlsplit(f"//{header}")
        if parsed.netloc != header or not parsed.hostname or parsed.username is not None:
            return None
        return parsed.hostname.rstrip("."), parsed.port
    except ValueError:
        return None
