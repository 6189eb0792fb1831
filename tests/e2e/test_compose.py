"""docker-compose.yml is valid, refers to existing files, sets known settings, and contains no working secret."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from cli.main import main
from predictions.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
PROXY = ROOT / "deploy" / "proxy.yml"
OBSERVE = ROOT / "deploy" / "observe"
SECRETS = {"MUSICGEN_API_TOKENS", "MUSICGEN_SECRET", "MUSICGEN_S3_ACCESS_KEY", "MUSICGEN_S3_SECRET_KEY"}
WORKERS = {"worker": "gpu", "worker-cpu": "cpu", "trainer": "trainings", "trainer-cpu": "trainings-cpu"}
"""Those that need torch, and their profiles."""
OURS = {"api", "webhooks", *WORKERS}
OBSERVERS = {"prometheus", "grafana", "jaeger"}
BUILT = OURS - {"webhooks"}

Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    services = YAML(typ="safe").load(COMPOSE)["services"]
    assert set(services) == OURS | OBSERVERS | {"redis", "s3"}
    return services


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    """The variables of .env.example, including those that are commented out."""
    found = re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    return dict(found)


def variables(text: str) -> set[str]:
    """The variables that Compose reads from the environment."""
    return set(re.findall(r"\$\{(\w+)", text))


def is_setting(name: str) -> bool:
    return name.removeprefix(PREFIX).lower() in Settings.model_fields


@pytest.mark.parametrize("file", [COMPOSE, PROXY])
def test_conforms_to_the_compose_specification(file: Path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", sorted(BUILT))
def test_is_built_from_a_dockerfile_that_knows_its_arguments(services: dict[str, Service], name: str):
    build = services[name]["build"]
    dockerfile = (ROOT / build["context"] / build["dockerfile"]).read_text()
    for argument, value in build.get("args", {}).items():
        assert re.search(rf"^ARG {argument}\b", dockerfile, re.MULTILINE)
        assert argument != "TORCH" or f"{value})" in dockerfile


def test_no_image_is_built_twice(services: dict[str, Service]):
    """Compose builds in parallel, and two builds with one tag fail with "already exists"."""
    built = [service["image"] for service in services.values() if "build" in service]
    assert len(built) == len(set(built)) == len(BUILT)
    webhooks = services["webhooks"]
    assert webhooks["image"] == services["api"]["image"]
    assert webhooks["pull_policy"] == "never", "it is built here, and no registry has it"


def test_every_variable_is_a_setting(services: dict[str, Service], example: dict[str, str]):
    named = {name for service in services.values() for name in service.get("environment", {})}
    named |= variables(COMPOSE.read_text()) | set(example)
    ours = {name for name in named if name.startswith(PREFIX)}
    assert ours >= SECRETS
    assert {name for name in ours if not is_setting(name)} == set()
    # These reach our processes too, through env_file, and must not be taken for a setting's other name.
    assert "PORT" not in named


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_does_not_start_without_a_secret(example: dict[str, str], secret: str):
    operators = re.findall(rf"\$\{{{secret}(..)", COMPOSE.read_text())
    assert set(operators) == {":?"}, "missing or empty, it must be refused, and there must be no default"
    assert example[secret] == ""


def test_what_compose_reads_is_in_the_example(example: dict[str, str]):
    rarely_needed = {"MUSICGEN_S3_ENDPOINT", "MUSICGEN_S3_BUCKET", "MUSICGEN_S3_REGION", "MUSICGEN_S3_CREATE_BUCKET"}
    assert variables(COMPOSE.read_text()) - rarely_needed <= set(example)


def test_the_settings_in_the_file_are_accepted(services: dict[str, Service], monkeypatch: pytest.MonkeyPatch):
    """The settings accept the environment that the file gives each process, defaults included."""
    for name in OURS:
        with monkeypatch.context() as environment:
            for variable, value in services[name]["environment"].items():
                environment.setenv(variable, with_defaults(value))
            settings = Settings()
            settings.require_secret()
            assert settings.storage == "s3"
            assert settings.s3_endpoint == "http://s3:7070"
            assert settings.s3_public_endpoint == "http://localhost:7070"
            if name == "api":
                settings.require_safe_binding()


def with_defaults(value: str) -> str:
    """The value of a variable where only the secrets are set."""
    value = re.sub(r"\$\{\w+:\?[^}]*\}", "a secret of some length", value)
    while "${" in value:
        value = re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", value)
    return value


def test_tokens_reach_the_api_alone(services: dict[str, Service]):
    tokens = {name: services[name]["environment"]["MUSICGEN_API_TOKENS"] for name in OURS}
    assert tokens.pop("api").startswith("${")
    assert set(tokens.values()) == {""}, "an empty value here wins over the one in env_file"


def test_workers_run_a_command_that_exists(services: dict[str, Service], capsys: pytest.CaptureFixture[str]):
    commands = {name: services[name]["command"] for name in OURS if "command" in services[name]}
    assert {name: command[1] for name, command in commands.items()} == {
        "webhooks": "--queues",
        "trainer": "--trainings",
        "trainer-cpu": "--trainings",
    }
    for command in commands.values():
        with pytest.raises(SystemExit) as exit_:
            main([*command, "--help"])
        assert exit_.value.code == 0
        assert command[-1] in capsys.readouterr().out


def test_a_worker_of_each_kind_is_one_word_away(services: dict[str, Service], example: dict[str, str]):
    assert {name: services[name]["profiles"] for name in WORKERS} == {name: [word] for name, word in WORKERS.items()}
    assert example["COMPOSE_PROFILES"] == "gpu"
    for name in WORKERS:
        device = services[name]["environment"]["MUSICGEN_DEVICE"]
        assert services[name]["build"]["args"]["TORCH"] == services[name]["image"].partition(":")[2] == device
        reserved = services[name].get("deploy")
        assert (reserved is not None) == (device == "cuda")
        if reserved is not None:
            (gpu,) = reserved["resources"]["reservations"]["devices"]
            assert gpu["capabilities"] == ["gpu"]


def test_images_have_the_extras_that_their_workers_need(services: dict[str, Service], example: dict[str, str]):
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in WORKERS:
        extras = with_defaults(services[name]["build"]["args"]["EXTRAS"]).split(",")
        assert set(extras) <= set(known)
        assert "engine" in extras
        assert ("finetuning" in extras) == ("--trainings" in services[name].get("command", []))
    assert {"engine", "finetuning"} < set(example["TRAINER_EXTRAS"].split(",")) <= set(known)


def test_datasets_are_unpacked_on_a_disk(services: dict[str, Service]):
    for name in ("trainer", "trainer-cpu"):
        assert services[name]["tmpfs"] == []
        assert set(services[name]["volumes"]) == {*services["worker"]["volumes"], "/tmp"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_processes_wait_for_what_they_need_and_have_time_to_end(services: dict[str, Service], name: str):
    service = services[name]
    for needed, condition in service["depends_on"].items():
        assert condition == {"condition": "service_healthy"}
        assert services[needed]["healthcheck"]["test"]
    assert set(service["depends_on"]) == {"redis", "s3"}
    assert service["restart"] == "unless-stopped"
    assert "stop_grace_period" in service
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_redis_keeps_what_it_is_told(services: dict[str, Service]):
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert services["redis"]["volumes"] == ["redis:/data"]
    assert "ports" not in services["redis"], "it has no password, so nobody outside may reach it"


def test_images_of_others_are_pinned(services: dict[str, Service]):
    for name in {"redis", "s3"} | OBSERVERS:
        assert re.search(r":v?\d+\.\d+\.\d+", services[name]["image"])


def test_ports_are_bound_to_this_machine_unless_told_otherwise(services: dict[str, Service], example: dict[str, str]):
    ports = [port for name in set(services) - OBSERVERS for port in services[name].get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in ports)
    assert example["BIND_ADDRESS"] == "127.0.0.1"


def test_prometheus_asks_every_process_of_ours(services: dict[str, Service]):
    [job] = YAML(typ="safe").load(OBSERVE / "prometheus.yml")["scrape_configs"]
    [discovery] = job["dns_sd_configs"]
    assert set(discovery["names"]) == OURS
    for name in OURS:
        variables = services[name]["environment"]
        assert variables["MUSICGEN_METRICS_PORT"] == str(discovery["port"])
        assert variables["MUSICGEN_METRICS_HOST"] == "0.0.0.0"
        assert "default" in services[name]["networks"]
        assert all(str(discovery["port"]) not in port for port in services[name].get("ports", []))


def test_who_observes_is_asked_for_and_seen_on_this_machine_alone(services: dict[str, Service]):
    for name in OBSERVERS:
        service = services[name]
        assert service["profiles"] == ["observe"]
        assert service["read_only"]
        assert "networks" not in service, "it is in the default network, and never in that of Redis"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source == "prometheus" or (ROOT / source).exists()


@pytest.mark.parametrize(("password", "status"), [("", 1), ("chosen", 0)])
def test_grafana_does_not_start_without_a_password(services: dict[str, Service], password: str, status: int):
    grafana = services["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    shell, option, script = grafana["entrypoint"]
    # Compose makes one dollar of two. What starts Grafana is only in its image.
    script = script.replace("$$", "$").replace("/run.sh", "true")
    done = subprocess.run([shell, option, script], env={"GF_SECURITY_ADMIN_PASSWORD": password}, capture_output=True)
    assert done.returncode == status
    assert (b"set GRAFANA_PASSWORD" in done.stdout) == (status == 1)


def test_grafana_and_traces_find_what_they_read(services: dict[str, Service]):
    yaml = YAML(typ="safe")
    sources = {source["uid"]: source for source in yaml.load(OBSERVE / "grafana" / "datasources.yml")["datasources"]}
    assert {httpx.URL(source["url"]).host for source in sources.values()} <= OBSERVERS
    used = {
        panel["datasource"]["uid"]
        for path in (OBSERVE / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] != "row"
    }
    assert used <= set(sources)
    [provider] = yaml.load(OBSERVE / "grafana" / "dashboards.yml")["providers"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
    collector = yaml.load(OBSERVE / "jaeger.yml")
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert services["api"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(f"http://jaeger:{port}}}")
    query = collector["extensions"]["jaeger_query"]["http"]["endpoint"].rpartition(":")[2]
    assert sources["jaeger"]["url"] == f"http://jaeger:{query}"


def test_the_proxy_stands_before_services_that_exist(services: dict[str, Service], example: dict[str, str]):
    added = YAML(typ="safe").load(PROXY)
    assert set(added["services"]) - set(services) == {"proxy"}
    proxy = added["services"]["proxy"]
    assert re.search(r":\d+\.\d+\.\d+", proxy["image"])
    assert (ROOT / proxy["volumes"][0].partition(":")[0]).is_file()
    assert variables(PROXY.read_text()) == set(proxy["environment"]) <= set(example)
    named = {name for service in added["services"].values() for name in service.get("environment", {})}
    assert all(is_setting(name) for name in named if name.startswith(PREFIX))
    for name in OURS:
        assert {"MUSICGEN_PUBLIC_URL", "MUSICGEN_S3_PUBLIC_ENDPOINT"} <= set(added["services"][name]["environment"])
    [network] = added["networks"]["proxy"]["ipam"]["config"]
    api = added["services"]["api"]
    assert api["environment"]["MUSICGEN_PROXIES"] == network["subnet"]
    # A list of networks replaces the one in the other file.
    assert set(api["networks"]) == {*services["api"]["networks"], "proxy"}
    targets = set(re.findall(r"reverse_proxy (\w+):\d+", (ROOT / "deploy" / "Caddyfile").read_text()))
    assert targets == {"api", "s3"} == set(proxy["depends_on"])
