"""`medsharp access`: who may use a server, as a file of hashes for `medsharp serve --access`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medsharp.cli._console import console, errors
from medsharp.errors import InputError

File = Annotated[
    Path, typer.Option("--file", metavar="FILE", envvar="MEDSHARP_ACCESS", help="The file; made if it is missing.")
]

app = typer.Typer(help="Say who may use a server: users with passwords, programs with keys.", no_args_is_help=True)


@app.command("user")
def user(name: Annotated[str, typer.Argument(help="For the browser's question.")], file: File) -> None:
    """Add a user, or give one another password; it is asked for, or read from standard input."""
    from serve.security import accounts

    password = _ask_password(name)
    accounts.check_password(password)
    replaced = accounts.add_account(file, accounts.user(name, password))
    console.print(f"{'changed' if replaced else 'added'} the user {name} in {file}", markup=False, soft_wrap=True)


@app.command("key")
def key(name: Annotated[str, typer.Argument(help="Of the program, as the audit log has it.")], file: File) -> None:
    """Add a key for a program, or replace one, and print it; it is nowhere else."""
    from serve.security import accounts

    account, made = accounts.new_key(name)
    replaced = accounts.add_account(file, account)
    # Beside it, so that a script takes the key alone.
    said = f"{'replaced' if replaced else 'added'} the key {name} in {file}; this is the only time that it is shown"
    errors.print(said, markup=False, soft_wrap=True, style="dim")
    console.print(made, markup=False, soft_wrap=True)


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Of the user or key.")], file: File) -> None:
    """Remove a user or a key; a running server lets it in no longer."""
    from serve.security import accounts

    for account in accounts.remove_account(file, name):
        console.print(f"removed the {account.kind} {name} from {file}", markup=False, soft_wrap=True)


@app.command("list")
def list_accounts(file: File) -> None:
    """List who is in the file."""
    from serve.security import accounts

    for account in accounts.read_accounts(file):
        console.print(f"{account.kind} {account.name}", markup=False, soft_wrap=True)


def _ask_password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    import getpass

    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Again: ") != password:
        raise InputError("the passwords differ; nothing was changed")
    return password
