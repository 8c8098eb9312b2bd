"""What `medsharp serve --ray` is told reaches Ray Serve, and the application that a replica builds."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from medsharp.bundle import read_bundle
from medsharp.cli import app
from medsharp.errors import InputError
from medsharp.images import ValueRange
from serve.engine.capacity import BusyError

pytest.importorskip("ray")
pytest.importorskip("grpc")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings

KEY = b"0123456789abcdef0123456789abcdef-"


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> Callable[..., SimpleNamespace]:
    """Run the command with a Ray that keeps what it is given in place of starting it."""
    import medsharp.cluster
    from medsharp.cluster import Cluster, serving

    def run(*options: object, cpus: int = 16, gpus: float = 0.0) -> SimpleNamespace:
        given = SimpleNamespace()

        @contextmanager
        def joined(address: str) -> Iterator[Cluster]:
            given.address = address
            yield Cluster(address, ((cpus, gpus),))

        @contextmanager
        def deployed(cluster: Cluster, build: Any, **settings: Any) -> Iterator[Callable[[], None]]:
            vars(given).update(build=build, cluster=cluster, **settings)
            yield lambda: None

        @contextmanager
        def until_signal() -> Iterator[Any]:
            yield SimpleNamespace(wait=lambda seconds: True)

        monkeypatch.setattr(medsharp.cluster, "joined", joined)
        monkeypatch.setattr(serving, "deployed", deployed)
        monkeypatch.setattr(serving, "until_signal", until_signal)
        result = CliRunner().invoke(app, ["serve", str(bundle), "--ray", *map(str, options)], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return given

    return run


def test_how_many_replicas_and_of_what(deploy: Callable[..., SimpleNamespace]) -> None:
    from medsharp.cluster.serving import Replicas

    options = ("--replicas", "2:8", "--target-ongoing-requests", "5", "--cpus-each", "3", "--gpus-each", "0.25")
    given = deploy(*options, "--waiting", "7", "--host", "127.0.0.1", "--port", "0")
    assert given.replicas == Replicas(least=2, most=8, target_ongoing_requests=5.0, cpus=3, gpus=0.25)
    assert given.most_inside == 8  # those that wait, and the one that is worked on
    assert (given.listening.host, given.address) == ("127.0.0.1", "local")
    assert given.listening.port > 0
    assert given.build.load.keywords["threads"] == 3
    alone = deploy("--port", "0")
    assert alone.replicas == Replicas(least=1, most=1, target_ongoing_requests=2.0, cpus=1, gpus=None)
    assert alone.build.load.keywords["threads"] == 1


def test_gpus_of_a_replica_are_what_the_cluster_has() -> None:
    from medsharp.cluster import Cluster
    from medsharp.cluster.serving import Replicas

    asked = Replicas(2, 8, 5.0, cpus=3)
    for gpus, each in ((0.0, 0.0), (4.0, 1.0)):
        assert asked.on(Cluster("auto", ((4, 0.0), (8, gpus)))) == Replicas(2, 8, 5.0, 3, each)
    assert Replicas(2, 8, 5.0, 3, 0.25).on(Cluster("auto", ((4, 0.0), (8, 4.0)))).gpus == 0.25


def test_replica_must_fit_on_one_machine() -> None:
    from medsharp.cluster import Cluster
    from medsharp.cluster.serving import Replicas

    cluster = Cluster("10.0.0.1:6379", ((8, 0.0), (8, 1.0), (4, 2.0)))
    with pytest.raises(InputError, match="a replica needs 9 CPUs on one machine"):
        Replicas(1, 1, 2.0, cpus=9, gpus=0.0).on(cluster)
    with pytest.raises(InputError, match="each of 3 replicas needs 5 CPUs; ask for less"):
        Replicas(3, 3, 2.0, cpus=5, gpus=0.0).on(Cluster("local", ((12, 0.0),)))


def test_ray_serve_is_told_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """And starts its proxies in an environment in which they believe nobody's headers."""
    from medsharp.cluster import Cluster, serving

    told: dict[str, Any] = {}

    class Deployment:
        def bind(self, *arguments: Any) -> str:
            told["bound"] = arguments
            return "application"

    def deployment(replica: Any, **settings: Any) -> Deployment:
        told["deployment"] = settings
        return Deployment()

    monkeypatch.setattr(serving, "list_named_actors", lambda all_namespaces: [])
    for name, stand_in in {
        "ingress": lambda: lambda replica: replica,
        "deployment": deployment,
        "start": lambda **settings: told.update(start=settings),
        "run": lambda application, **settings: told.update(run=(application, settings)),
        "delete": lambda name: told.update(deleted=name),
        "shutdown": lambda: told.update(over=True),
    }.items():
        monkeypatch.setattr(serving.serve, name, stand_in)
    replicas = serving.Replicas(2, 8, 5.0, cpus=3, gpus=0.25)
    listening = serving.Listening("10.0.0.1", 8443, Path("cert.pem"), Path("key.pem"))
    cluster = Cluster("10.0.0.1:6379", ((4, 0.0), (8, 4.0)))
    with serving.deployed(cluster, "build", replicas=replicas, listening=listening, most_inside=8):  # type: ignore[arg-type]
        assert "deleted" not in told
    scaling = told["deployment"]["autoscaling_config"]
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 8, 5.0)
    assert told["deployment"]["ray_actor_options"] == {"num_cpus": 3, "num_gpus": 0.25}
    assert told["deployment"]["max_ongoing_requests"] > 8
    assert told["bound"][0] == "build"
    http = told["start"]["http_options"]
    assert (http.host, http.port) == ("10.0.0.1", 8443)
    assert (http.ssl_certfile, http.ssl_keyfile) == ("cert.pem", "key.pem")
    assert told["start"]["proxy_location"] == "EveryNode"
    assert told["start"]["controller_options"].runtime_env == {"env_vars": {"FORWARDED_ALLOW_IPS": ""}}
    assert (told["deleted"], told["over"]) == (serving.NAME, True)
    with serving.deployed(
        Cluster("local", ((12, 4.0),)),
        "build",
        replicas=replicas,
        listening=listening,
        most_inside=8,  # type: ignore[arg-type]
    ):
        assert told["start"]["proxy_location"] == "HeadOnly"


def test_application_of_a_replica_is_that_of_the_command(
    deploy: Callable[..., SimpleNamespace], bundle: Path, tmp_path: Path, png: bytes
) -> None:
    """Limits, batches, reading, names, proxies and the audit log, as `medsharp serve` has them by the same options."""
    (tmp_path / "key").write_bytes(KEY)
    given = deploy(
        *("--port", "0", "--waiting", "7", "--deadline", "33", "--max-batch", "5", "--max-wait", "40"),
        *("--limit", "max_side=167", "--range", "3,51000"),
        *("--allowed-host", "ward.example", "--trusted-proxy", "10.9.8.0/24"),
        *("--audit-log", tmp_path / "audit.jsonl", "--audit-key", tmp_path / "key", "--audit-addresses"),
    )
    built: FastAPI = given.build("abc")
    model = built.state.models.default
    with ExitStack() as inside:
        for _ in range(8):
            inside.enter_context(built.state.admission.entry())
        with pytest.raises(BusyError, match="7 requests wait already"):
            built.state.admission.check()
    assert (model.predictor.limits.max_side, model.predictor.value_range) == (167, ValueRange(3, 51000))
    assert given.build.limits.deadline_seconds == 33
    assert (given.build.batching.max_batch, given.build.batching.max_wait) == (5, 0.04)
    assert given.build.bundles[0][0].is_absolute()
    with TestClient(built, base_url="http://ward.example", client=("127.0.0.1", 50000)) as client:
        told = {"Content-Type": "image/png", "X-Request-ID": "01234567-89abcdef"}
        assert client.post("/v1/predict", content=png, headers=told).status_code == 200
        assert client.get("/model", headers={"Host": "other.example"}).status_code == 421
        assert client.get("/").status_code == 404
    (line,) = map(json.loads, (tmp_path / "audit.jsonl.abc").read_text().splitlines())
    assert line["request"] == "01234567-89abcdef"
    assert line["address"] == "127.0.0.1"
    assert line["input"] == f"hmac-sha256:{hmac.new(KEY, png, hashlib.sha256).hexdigest()}"
    assert line["model"] == read_bundle(bundle).name
    assert not (tmp_path / "audit.jsonl").exists()
    with TestClient(given.build("def"), base_url="http://ward.example", client=("10.9.8.7", 50000)) as client:
        said = {"Content-Type": "image/png", "X-Forwarded-For": "192.0.2.1"}
        assert client.post("/v1/predict", content=png, headers=said).status_code == 200
    (line,) = map(json.loads, (tmp_path / "audit.jsonl.def").read_text().splitlines())
    assert line["address"] == "192.0.2.1"


def test_other_bundle_on_a_machine_of_the_cluster_is_refused(
    deploy: Callable[..., SimpleNamespace], bundle: Path, tmp_path: Path
) -> None:
    build = deploy("--port", "0").build
    ((folder, digest),) = build.bundles
    assert folder == bundle.absolute()
    other = dataclasses.replace(build, bundles=((folder, digest[::-1]),))
    with pytest.raises(InputError, match="is another bundle on a machine of the cluster"):
        other("abc")
