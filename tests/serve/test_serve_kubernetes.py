"""The manifests for Kubernetes: its own schemas accept them, they fit together, and their probes are answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.main import get_command

from medsharp.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

FILE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "medsharp.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """Each object by its kind."""
    found = [one for one in yaml.safe_load_all(FILE.read_text(encoding="utf-8")) if one is not None]
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


@pytest.fixture(scope="module")
def container(objects: dict[str, Any]) -> dict[str, Any]:
    (found,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def test_kubernetes_accepts_every_object(objects: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for one in objects.values():
        for version in ("1.33.0", validator.latest_version()):
            validator.validate(one, version, strict=True)
    wrong = {**objects["Service"], "spec": {**objects["Service"]["spec"], "porst": []}}
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, validator.latest_version(), strict=True)


def test_objects_speak_of_one_another(objects: dict[str, Any], container: dict[str, Any]) -> None:
    deployment = objects["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    chosen = [
        deployment["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in chosen)
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    # Only the ingress and Prometheus are let in, so that the ingress may be believed about who asks.
    assert any(argument.startswith("--trusted-proxy=") for argument in container["args"])
    names = {port["name"] for port in container["ports"]}
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in names
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] in names
    assert {one["metadata"]["namespace"] for one in objects.values()} == {"medsharp"}
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert "replicas" not in deployment["spec"]  # the autoscaler's


def test_pods_can_go_one_by_one_and_finish_what_they_have(objects: dict[str, Any], container: dict[str, Any]) -> None:
    scaler, budget = objects["HorizontalPodAutoscaler"]["spec"], objects["PodDisruptionBudget"]["spec"]
    assert scaler["minReplicas"] > budget["minAvailable"]
    options = dict(argument.lstrip("-").split("=") for argument in container["args"] if "=" in argument)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= float(options["deadline"]) + stop


def test_nobody_in_particular_runs_it_and_nothing_can_be_written(
    objects: dict[str, Any], container: dict[str, Any]
) -> None:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # the image's
    assert pod["automountServiceAccountToken"] is False
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    (written,) = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
    (scratch,) = [volume for volume in pod["volumes"] if volume["name"] == written["name"]]
    assert scratch["emptyDir"]["medium"] == "Memory"
    assert ":latest" not in container["image"]
    assert ":" in container["image"]
    assert objects["NetworkPolicy"]["spec"]["egress"] == []
    assert container["resources"]["limits"]["cpu"] == container["resources"]["requests"]["cpu"]


def test_options_are_those_of_the_command(container: dict[str, Any]) -> None:
    command: Any = get_command(app)
    known = {name for one in command.commands["serve"].params for name in (*one.opts, *one.secondary_opts)}
    given = [argument.split("=")[0] for argument in container["args"]]
    assert set(given) <= known
    assert "--access" in given  # it is reached from other machines


def test_probes_are_answered_and_the_metric_exists(
    container: dict[str, Any], objects: dict[str, Any], make_client: Callable[..., TestClient]
) -> None:
    with make_client(auth=("ward", "secret")) as client:
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[kind]["httpGet"]
            headers = {header["name"]: header["value"] for header in asked["httpHeaders"]}
            assert client.get(asked["path"], headers=headers).status_code == 200
        (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
        found = client.get("/metrics", headers={"Host": "localhost"})
        assert found.status_code == 401  # behind the door
        lines = client.get("/metrics", headers={"Host": "localhost"}, auth=("ward", "secret")).text.splitlines()
        assert any(line.startswith(f"{metric['pods']['metric']['name']} ") for line in lines)
