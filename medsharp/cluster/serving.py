"""An application behind Ray Serve: replicas that are added under load, and replaced when they die."""

from __future__ import annotations

import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, ControllerOptions, HTTPOptions
from ray.serve.schema import LoggingConfig
from ray.util import list_named_actors

from medsharp import __version__
from medsharp.cluster.reading import check_version
from medsharp.cluster.session import LOCAL, Cluster
from medsharp.errors import InputError

NAME = "medsharp"
"""Of the application in Ray Serve."""

_DRAIN_SECONDS = 60.0
"""How long a replica that is to end goes on with the requests that it has."""

_BESIDE = 32
"""Requests that a replica is sent beside those that it takes on, such as questions whether it is ready."""

_CONTROLLER = {"name": "SERVE_CONTROLLER_ACTOR", "namespace": "serve"}
"""What starts Ray Serve's proxies and replicas."""

_PROXY_ENVIRONMENT = {"FORWARDED_ALLOW_IPS": ""}
"""Uvicorn, in Ray Serve's proxies, would take the client's address and the scheme from the headers of whoever asks from
loopback, or whom the cluster's environment names; the application itself says whose headers it takes. It is the
controller's environment that proxies get, on each machine of a cluster."""

App = Callable[..., Any]
"""An ASGI application."""


@dataclass(frozen=True)
class Replicas:
    """How many there are, and what each takes.

    Attributes:
        least: Replicas that are always there.
        most: Under load.
        target_ongoing_requests: Of a replica, that are aimed at.
        cpus: Cores of each.
        gpus: Of each, which may be a part of one; one where there are any by default.
    """

    least: int = 1
    most: int = 1
    target_ongoing_requests: float = 2.0
    cpus: int = 1
    gpus: float | None = None

    @classmethod
    def read(cls, text: str, **others: Any) -> Replicas:
        """Read `MIN:MAX`, or one number for both.

        Raises:
            InputError: It is neither, or the second is less than the first.
        """
        found = re.fullmatch(r"([1-9]\d{0,3})(?::([1-9]\d{0,3}))?", text)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise InputError(f"--replicas {text}: write how many, or MIN:MAX, such as 2:8")
        return cls(int(found[1]), int(found[2] or found[1]), **others)

    def on(self, cluster: Cluster) -> Replicas:
        """Return the same with the GPUs of a replica on a cluster.

        Raises:
            InputError: The cluster has too little for them.
        """
        gpus = min(1.0, cluster.gpus) if self.gpus is None else self.gpus
        # More machines may come to a cluster, but not to this one.
        count = self.least if cluster.address == LOCAL else 1
        what = "a replica" if count == 1 else f"each of {count} replicas"
        cluster.check_room(what, self.cpus, gpus, count)
        return Replicas(self.least, self.most, self.target_ongoing_requests, self.cpus, gpus)


@dataclass(frozen=True)
class Listening:
    """Where Ray Serve's proxies listen.

    Attributes:
        host: Address.
        port: TCP port.
        certificate: PEM file, with which they speak TLS.
        private_key: PEM file of its key.
    """

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None

    def tls(self) -> dict[str, Any]:
        """Return the options of Ray Serve for it."""
        if self.certificate is None:
            return {}
        return {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.private_key or self.certificate)}


@contextmanager
def deployed(
    cluster: Cluster, build: Callable[[str], App], *, replicas: Replicas, listening: Listening, most_inside: int
) -> Iterator[Callable[[], None]]:
    """Have replicas of an application answer until the block ends; they finish what they have then.

    Gives what looks whether Ray Serve still has the application, and raises an InputError where not.

    Args:
        cluster: Where.
        build: Builds the application, given the name of a replica; it can be sent to another machine. Its `/readyz`
            says whether a replica is healthy.
        replicas: How many.
        listening: At which address.
        most_inside: Requests that a replica takes on at once, of itself.

    Raises:
        InputError: Ray Serve runs there already, or no replica starts.
    """
    # One without proxies too: those that it starts would have its environment.
    if _CONTROLLER in list_named_actors(all_namespaces=True):
        raise InputError(
            f"Ray Serve runs at {cluster.address} already, with an address of its own; end it with `serve shutdown`"
        )
    replicas = replicas.on(cluster)
    logging_config = LoggingConfig(enable_access_log=False, log_level="WARNING")
    everywhere = cluster.address != LOCAL and listening.host not in ("127.0.0.1", "localhost", "::1")
    autoscaling = AutoscalingConfig(
        min_replicas=replicas.least,
        max_replicas=replicas.most,
        target_ongoing_requests=replicas.target_ongoing_requests,
    )
    replica: Any = serve.ingress()(Replica)
    deployment: Any = serve.deployment(
        replica,
        name=NAME,
        autoscaling_config=autoscaling,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        max_ongoing_requests=most_inside + _BESIDE,
        graceful_shutdown_timeout_s=_DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=logging_config,
    )
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)  # the command says what there is to say
    try:
        serve.start(
            proxy_location="EveryNode" if everywhere else "HeadOnly",
            http_options=HTTPOptions(host=listening.host, port=listening.port, **listening.tls()),
            logging_config=logging_config,
            controller_options=ControllerOptions(runtime_env={"env_vars": _PROXY_ENVIRONMENT}),
        )
    except RayError as error:
        raise InputError(f"Ray Serve does not start at {cluster.address}: {_last_line(str(error))}") from error
    try:
        try:
            serve.run(deployment.bind(build, __version__), name=NAME, route_prefix="/")
        except RuntimeError as error:
            told = serve.status().applications[NAME].deployments.get(NAME)
            raise InputError(_reason(str(error) if told is None else told.message)) from error
        yield _look
    finally:
        serve.delete(NAME)  # returns when replicas have finished what they had
        serve.shutdown()


def _look() -> None:
    if NAME not in serve.status().applications:
        raise InputError("somebody else ended the application in Ray Serve")


@contextmanager
def until_signal() -> Iterator[threading.Event]:
    """Give an event that is set by Ctrl-C, by SIGTERM and by SIGHUP, which then end nothing by themselves."""
    stopped = threading.Event()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), lambda *_: stopped.set()) for name in names}
    try:
        yield stopped
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


class Replica:
    """One replica.

    Args:
        build: As for `deployed`.
        version: Of medsharp, where the command runs.
    """

    def __init__(self, build: Callable[[str], App], version: str) -> None:
        check_version(version)
        self._app = build(serve.get_replica_context().replica_id.unique_id)

    def __serve_build_asgi_app__(self) -> App:
        return self._app

    async def check_health(self) -> None:
        """Ask the application whether it is ready.

        Raises:
            RuntimeError: It is not, and Ray Serve replaces the replica.
        """
        status = await _status_of(self._app, "/readyz")
        if status != 200:
            raise RuntimeError(f"/readyz answered {status}")


async def _status_of(app: App, path: str) -> int:
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
    }
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": []}
    scope |= {"client": None, "server": None, "state": {}}
    await app(scope, receive, send)
    return statuses[0]


def _reason(said: str) -> str:
    """Return why no replica starts: the sentence of an InputError, where that is it."""
    found = re.findall(r"InputError: (.+)", said)
    return str(found[-1]).strip() if found else f"no replica starts: {_last_line(said)}"


def _last_line(said: str) -> str:
    """Return the last line of what Ray says, which names the error after its traces."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it does not say why")
