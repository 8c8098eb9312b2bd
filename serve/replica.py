"""The application as one of several replicas: built where it answers, from settings that can be sent there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from medsharp.bundle import digest_of, read_bundle
from medsharp.errors import InputError
from medsharp.inference import Predictor
from serve.app import create_app
from serve.engine import Batching
from serve.security.accounts import Account
from serve.security.crashes import quiet_logging
from serve.security.settings import given_accounts, secure
from serve.uploads.uploads import Limits


@dataclass(frozen=True)
class ReplicaApp:
    """Builds the application of a replica, on whichever machine.

    Attributes:
        bundles: Folder and digest of each, the default first; replicas find them at the same place.
        host: Address that is listened at.
        accounts: Who may log in; hashes alone travel.
        secured: The other settings of `serve.security.settings.secure`; its files are at the same place everywhere.
        limits: Of a replica.
        batching: Of a replica.
        load: Loads a bundle from its folder.
    """

    bundles: tuple[tuple[Path, str], ...]
    host: str
    accounts: tuple[Account, ...]
    secured: dict[str, Any]
    limits: Limits
    batching: Batching
    load: Callable[[Path], Predictor]

    @classmethod
    def of(
        cls,
        bundles: Sequence[Path],
        *,
        host: str,
        auth: tuple[str, str] | str | None = None,
        limits: Limits,
        batching: Batching,
        load: partial[Predictor],
        **secured: Any,
    ) -> ReplicaApp:
        """Check settings as far as this machine can tell.

        Args:
            bundles: Folders.
            host: As for `serve.run`.
            auth: As for `serve.run`.
            limits: As for `serve.run`.
            batching: As for `serve.run`.
            load: As for `serve.run`.
            secured: The other settings of `serve.security.settings.secure`.

        Raises:
            InputError: A bundle is missing or damaged, or a setting is wrong.
        """
        accounts = given_accounts(auth)
        files = {name: Path(secured[name]).absolute() for name in _FILES if secured.get(name) is not None}
        secured = secured | files
        # An audit log is opened where it is written.
        here = secured
        if secured.get("audit") is not None:
            here = {key: value for key, value in secured.items() if not key.startswith("audit")}
        secure(host, accounts=accounts, **here)
        found = tuple((folder.absolute(), digest_of(read_bundle(folder))) for folder in bundles)
        return cls(found, host, tuple(accounts), secured, limits, batching, load)

    def __call__(self, name: str) -> FastAPI:
        """Build it.

        Args:
            name: Of the replica, which its audit log ends in: no two write to one file.

        Raises:
            InputError: A bundle is another here, or `create_app` or `secure` says so.
        """
        quiet_logging()
        secured = dict(self.secured)
        if secured.get("audit") is not None:
            secured["audit"] = secured["audit"].with_name(f"{secured['audit'].name}.{name}")
        app = create_app(
            [folder for folder, _ in self.bundles],
            limits=self.limits,
            batching=self.batching,
            load=self.load,
            security=secure(self.host, accounts=self.accounts, **secured),
            one_of_several=True,
        )
        for (folder, digest), served in zip(self.bundles, app.state.models.values(), strict=True):
            if served.predictor.digest != digest:
                raise InputError(f"{folder} is another bundle on a machine of the cluster than where it was started")
        return app


_FILES = ("access", "audit", "audit_key")
"""Settings that name files."""
