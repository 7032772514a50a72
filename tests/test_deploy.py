"""The manifest for Kubernetes, checked with its schemas and against a real server; and the container."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import typer
import yaml

from convladder import cli
from convladder.serving.limits import Limits
from convladder.signals import SECONDS_TO_END
from served import started

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "data" / "before-familiarity.onnx"
MANIFEST = {found["kind"]: found for found in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())}
POD = MANIFEST["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def documented(kind: str) -> Any:
    """A block of docs/serve.md that is YAML and holds this word."""
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(), re.DOTALL)
    (found,) = [yaml.safe_load(block) for block in blocks if kind in block]
    return found


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", MANIFEST)
def test_kubernetes_takes_the_manifest(kind: str, version: str) -> None:
    """As its schemas of an old and of the newest version say, which know no other fields."""
    kubernetes_validate.validate(MANIFEST[kind], version, strict=True)


def test_the_parts_find_one_another() -> None:
    labels = POD["metadata"]["labels"].items()
    for selector in (
        MANIFEST["Deployment"]["spec"]["selector"]["matchLabels"],
        MANIFEST["Service"]["spec"]["selector"],
        MANIFEST["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        documented("PodMonitor")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    target = MANIFEST["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", MANIFEST["Deployment"]["metadata"]["name"])
    (port,) = CONTAINER["ports"]
    (served,) = MANIFEST["Service"]["spec"]["ports"]
    asked = [CONTAINER[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    (monitored,) = documented("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert {served["targetPort"], monitored["port"], *asked} == {port["name"]}
    (variable,) = CONTAINER["env"]
    key = variable["valueFrom"]["secretKeyRef"]
    assert monitored["authorization"]["credentials"] == key
    assert MANIFEST["HorizontalPodAutoscaler"]["spec"]["minReplicas"] > 1  # else a disruption budget of 1 holds a node


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A real server with the container's arguments, but for its model."""
    (variable,) = CONTAINER["env"]
    with started(str(MODEL), *CONTAINER["args"][1:], **{variable["name"]: "secret"}) as (_, _, port):
        yield f"http://127.0.0.1:{port}"


def test_probes_ask_for_what_is_there_without_the_key(url: str) -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        answer = httpx.get(f"{url}{CONTAINER[probe]['httpGet']['path']}", headers={"host": "10.1.2.3:8000"})
        assert answer.status_code == 200


def test_the_autoscaler_asks_for_a_metric_that_is_served(url: str) -> None:
    (monitored,) = documented("PodMonitor")["spec"]["podMetricsEndpoints"]
    path = f"{url}{monitored['path']}"
    assert httpx.get(path).status_code == 401
    answer = httpx.get(path, headers={"authorization": "Bearer secret", "host": "10.1.2.3:8000"})
    (metric,) = MANIFEST["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert re.search(rf"^{name} 1\.0$", answer.text, re.MULTILINE)
    (rule,) = documented("seriesQuery")["rules"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert rule["metricsQuery"].count("<<.Series>>{<<.LabelMatchers>>}") == 1


def test_the_containers_call_a_command_that_is_there() -> None:
    command = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    (default,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(entry) == ["convladder", "serve"]
    (port,) = CONTAINER["ports"]
    for arguments in (json.loads(default), CONTAINER["args"]):
        given = command.make_context("serve", list(arguments)).params  # which empties the list
        assert given["host"] == "0.0.0.0"
        assert given["port"] == port["containerPort"]
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE
    user = POD["spec"]["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in DOCKERFILE


def test_a_pod_may_finish_what_it_has_begun() -> None:
    wait = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["spec"]["terminationGracePeriodSeconds"] >= wait + Limits().seconds + 1 + SECONDS_TO_END
