"""`medsharp serve`: a bundle behind a web page and an HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsharp.cli._console import LIMIT_HELP, RANGE_HELP, console, note
from medsharp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOAD = "Under load"
_WHO = "Who may ask"
_RECORD = "What is written of it"
_NETWORK = "On a network"
_RAY = "On Ray"

_LOOK_SECONDS = 5.0
"""Between looks at whether Ray Serve still has the application."""


def serve(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Bundle folders, the first of which answers where a request names none; without it the one that ships "
            "in models/.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need --auth or --access.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    waiting: Annotated[
        int,
        typer.Option(
            min=0,
            max=100_000,
            help="Requests beside the first; more are told to come again (429).",
            rich_help_panel=_LOAD,
        ),
    ] = 64,
    deadline: Annotated[
        float,
        typer.Option(
            min=0.1, max=86_400, help="Seconds after which a request is given up (504).", rich_help_panel=_LOAD
        ),
    ] = 120.0,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=512, help="Images in a batch; 4 on a CPU and 32 elsewhere by default.", rich_help_panel=_LOAD
        ),
    ] = None,
    max_wait: Annotated[
        float,
        typer.Option(
            min=0,
            max=1000,
            help="Milliseconds that an image waits for others that are being decoded.",
            rich_help_panel=_LOAD,
        ),
    ] = 10.0,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD", envvar="MEDSHARP_AUTH", help="Ask visitors for this.", rich_help_panel=_WHO
        ),
    ] = None,
    access: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="MEDSHARP_ACCESS",
            help="Users and API keys, made with medsharp access.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Name by which the server is asked, such as a proxy's; repeat.", rich_help_panel=_WHO
        ),
    ] = None,
    audit_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append a line of JSON for each image.", rich_help_panel=_RECORD),
    ] = None,
    audit_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Key of the hashes of images there, 32 bytes or more.", rich_help_panel=_RECORD
        ),
    ] = None,
    audit_addresses: Annotated[
        bool, typer.Option("--audit-addresses", help="Write clients' addresses there.", rich_help_panel=_RECORD)
    ] = False,
    certfile: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Certificate, with which it speaks TLS.", rich_help_panel=_NETWORK),
    ] = None,
    keyfile: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Its key, if in another file.", rich_help_panel=_NETWORK)
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Where a proxy serves it, such as /medsharp.", rich_help_panel=_NETWORK)
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS", help="Proxy whose X-Forwarded headers are believed; repeat.", rich_help_panel=_NETWORK
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Answer by replicas on Ray Serve, by the API alone; docs/cluster.md.",
            rich_help_panel=_RAY,
        ),
    ] = None,
    replicas: Annotated[
        str | None,
        typer.Option(metavar="MIN:MAX", help="Of them, at least and at most; default: 1.", rich_help_panel=_RAY),
    ] = None,
    target_ongoing_requests: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="N", help="In each, beyond which more are started; default: 2.", rich_help_panel=_RAY
        ),
    ] = None,
    cpus_each: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cores of a replica; default: 1.", rich_help_panel=_RAY)
    ] = None,
    gpus_each: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            help="GPUs of a replica, also a part of one; default: 1 where there are any.",
            rich_help_panel=_RAY,
        ),
    ] = None,
) -> None:
    """Open a page that takes an image and shows probability, operating point and heat map, and the API.

    A running server loads its bundles again on SIGHUP, and finishes what it has before it stops.
    """
    from functools import partial

    from medsharp.bundle import default_bundle
    from medsharp.config import read_limits
    from medsharp.images import read_range
    from medsharp.inference import Predictor
    from serve import Limits, run
    from serve.engine import Batching

    declared = None if value_range is None else read_range(value_range, "--range")
    settings: dict[str, Any] = {
        "host": host,
        "auth": auth,
        "limits": Limits(max_waiting=waiting, deadline_seconds=deadline),
        "batching": Batching(max_batch, max_wait / 1000),
        "load": partial(Predictor.load, limits=read_limits(limit or ()), value_range=declared),
        "access": access,
        "hosts": allowed_host or (),
        "proxies": trusted_proxy or (),
        "audit": audit_log,
        "audit_key": audit_key,
        "audit_addresses": audit_addresses,
    }
    found = bundles or [default_bundle()]
    scaling = {
        "--replicas": replicas,
        "--target-ongoing-requests": target_ongoing_requests,
        "--cpus-each": cpus_each,
        "--gpus-each": gpus_each,
    }
    if ray is not None:
        if root_path:
            raise InputError("--root-path is not known to Ray Serve's proxies; have yours serve it at the root")
        _serve_on_ray(ray, found, port, certfile, keyfile, settings, scaling)
        return
    given = next((name for name, value in scaling.items() if value is not None), None)
    if given is not None:
        raise InputError(f"{given} is of replicas on Ray; give --ray too")
    run(
        found,
        port=port,
        open_browser=browser,
        announce=lambda sentence: console.print(sentence, soft_wrap=True),
        certificate=certfile,
        private_key=keyfile,
        root_path=root_path,
        **settings,
    )


def _serve_on_ray(
    address: str,
    bundles: Sequence[Path],
    port: int,
    certificate: Path | None,
    private_key: Path | None,
    settings: dict[str, Any],
    scaling: dict[str, Any],
) -> None:
    """Have replicas answer until a signal comes."""
    from medsharp.cluster import joined
    from medsharp.cluster.serving import Listening, Replicas, deployed, until_signal
    from serve.replica import ReplicaApp
    from serve.server import check_certificate, listen, page_address

    if address.startswith("ray://"):
        raise InputError("serve --ray takes a cluster that this machine is of, as auto or HOST:6379; run it there")
    replicas = Replicas.read(
        scaling["--replicas"] or "1",
        target_ongoing_requests=scaling["--target-ongoing-requests"] or 2.0,
        cpus=scaling["--cpus-each"] or 1,
        gpus=scaling["--gpus-each"],
    )
    check_certificate(certificate, private_key)
    host = settings["host"]
    with listen(host, port) as listening:
        # A free one is found so; Ray Serve's own process listens at it.
        port = listening.getsockname()[1]
        load = settings["load"]
        settings["load"] = type(load)(load.func, **load.keywords, threads=replicas.cpus)
        build = ReplicaApp.of(bundles, **settings)
    at = Listening(host, port, certificate, private_key)
    with joined(address) as cluster, until_signal() as stopped:
        note(f"runs on {cluster.text}")
        inside = settings["limits"].max_waiting + 1
        with deployed(cluster, build, replicas=replicas, listening=at, most_inside=inside) as check:
            console.print(page_address(host, port, certificate is not None), soft_wrap=True)
            while not stopped.wait(_LOOK_SECONDS):
                check()
