"""The chart's objects, rendered by helm for each file of values in deploy/helm/examples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import output

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "musicgen"
VALUES = {path.stem: path for path in sorted((ROOT / "deploy" / "helm" / "examples").glob("*.yaml"))}
RELEASE, NAMESPACE = "music", "music"
COMPONENTS = ("api", "webhooks", "worker", "trainer")
"""Those that run this project's own code."""

Object = dict[str, Any]


def render(*arguments: str | Path) -> list[Object]:
    """What `helm template` makes with these arguments."""
    text = output("helm", "template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)
    return [found for found in yaml.safe_load_all(text) if found]


@cache
def rendered(example: str) -> tuple[Object, ...]:
    """The objects of one example."""
    return tuple(render("--values", VALUES[example]))


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    [found] = [found for found in of_kind(objects, kind) if found["metadata"]["name"] == name]
    return found


def workloads(objects: Sequence[Object], *components: str) -> list[Object]:
    """The Deployments and StatefulSets, of these components or of all."""
    found = of_kind(objects, "Deployment", "StatefulSet")
    return [one for one in found if not components or component(one) in components]


def component(found: Object) -> str:
    name: str = found["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def pod(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Object) -> Object:
    [only] = pod(workload)["containers"]
    result: Object = only
    return result


def matches(selector: dict[str, str], workload: Object) -> bool:
    """Whether a selector chooses the pods of a workload."""
    return selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def environment(workload: Object, secrets: dict[str, str]) -> dict[str, str]:
    """The variables of its container as the kubelet makes them. `secrets`: what is in the Secret."""
    result: dict[str, str] = {}
    for variable in container(workload).get("env", ()):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference is None:
            result[variable["name"]] = expanded(variable["value"], result)
        elif reference["key"] in secrets or not reference.get("optional"):
            result[variable["name"]] = secrets[reference["key"]]
    return result


def expanded(text: str, variables: dict[str, str]) -> str:
    """A text in which $(NAME) stands for a variable that was named before."""
    return re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], text)


def references(value: Any, key: str) -> Iterator[Any]:
    """Whatever stands under a key, at any depth."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from references(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from references(item, key)
