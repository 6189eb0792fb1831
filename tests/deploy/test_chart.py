"""The Helm chart: rendered by helm, taken by Kubernetes' own schemas, and held against the code that it runs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from cli.main import main
from predictions.models.registry import load_registry
from predictions.settings import PREFIX, Settings, load_settings
from tests.deploy import charts
from tests.deploy.charts import CHART, COMPONENTS, ROOT, VALUES, Object, container, pod, workloads
from tests.deploy.tools import output, run

KUBERNETES = ("1.30", "1.35")
"""The oldest version that the chart takes, and the newest that it is tried with."""
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "schemas").glob("*.json")}
"""Of the kinds that are not Kubernetes' own."""
SECRETS = {
    "MUSICGEN_SECRET": "a secret of some length",
    "MUSICGEN_API_TOKENS": "a-token-of-ann",
    "MUSICGEN_REDIS_URL": "rediss://user:password@redis.example.com:6379/0",
    "MUSICGEN_S3_ACCESS_KEY": "key",
    "MUSICGEN_S3_SECRET_KEY": "secret key",
    "VALKEY_PASSWORD": "password",
}
HEALTH_PATHS = {"startupProbe": "/health/startup", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
GRACE_SECONDS = {"20s": 20, "1m": 60, "2m": 120, "10m": 600}

TRAINS = {"two-models", "cpu"}
"""The examples in which a model is trained."""

each_example = pytest.mark.parametrize("example", VALUES)


def test_there_are_five_examples() -> None:
    assert set(VALUES) == {"minimal", "production", "two-models", "cpu", "tenants"}


@each_example
def test_helm_finds_nothing_to_complain_of(example: str) -> None:
    said = output("helm", "lint", CHART, "--strict", "--values", VALUES[example])
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@each_example
def test_kubernetes_knows_every_object(example: str) -> None:
    for found in charts.rendered(example):
        if schema := SCHEMAS.get(found["kind"]):
            jsonschema.validate(found, schema)
        else:
            for version in KUBERNETES:
                kubernetes_validate.validate(found, version, strict=True)


def test_a_wrong_object_is_found() -> None:
    service = charts.of_kind(charts.rendered("minimal"), "Service")[0]
    wrong = {**service, "spec": {**service["spec"], "portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)
    [scaled] = charts.of_kind(charts.rendered("production"), "ScaledObject")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**scaled, "spec": {**scaled["spec"], "minReplicas": 0}}, SCHEMAS["ScaledObject"])


@each_example
def test_objects_find_each_other(example: str) -> None:
    objects = charts.rendered(example)
    identities = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(identities) == len(set(identities))
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for _, name in identities)
    for workload in workloads(objects):
        assert charts.matches(workload["spec"]["selector"]["matchLabels"], workload)
    for service in charts.of_kind(objects, "Service"):
        chosen = [one for one in workloads(objects) if charts.matches(service["spec"]["selector"], one)]
        assert chosen
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in port_names(one) for one in chosen)
    for scaler in charts.of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        assert ("Deployment", scaler["spec"]["scaleTargetRef"]["name"]) in identities
    for budget in charts.of_kind(objects, "PodDisruptionBudget"):
        assert any(charts.matches(budget["spec"]["selector"]["matchLabels"], one) for one in workloads(objects))
    for backend in charts.references(objects, "backend"):
        target = charts.named(objects, "Service", backend["service"]["name"])
        assert backend["service"]["port"]["name"] in {port["name"] for port in target["spec"]["ports"]}
    for monitor in charts.of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        [service] = [one for one in charts.of_kind(objects, "Service") if wanted <= one["metadata"]["labels"].items()]
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def port_names(workload: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(workload)["ports"]}


@each_example
def test_what_pods_mount_is_there(example: str) -> None:
    objects = charts.rendered(example)
    values = yaml.safe_load(VALUES[example].read_text())
    by_hand = {values.get(name, {}).get("existingSecret") for name in ("secrets", "tokensFile", "contentCredentials")}
    secrets = {found["metadata"]["name"] for found in charts.of_kind(objects, "Secret")} | by_hand
    claims = {found["metadata"]["name"] for found in charts.of_kind(objects, "PersistentVolumeClaim")}
    claims |= {model.get("cache", {}).get("existingClaim") for model in values.get("models", ())}
    for workload in workloads(objects):
        volumes = {volume["name"] for volume in pod(workload).get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        assert {mount["name"] for mount in container(workload)["volumeMounts"]} == volumes
        assert {reference["name"] for reference in charts.references(pod(workload), "secretKeyRef")} <= secrets
        assert set(charts.references(pod(workload), "secretName")) <= secrets
        assert set(charts.references(pod(workload), "claimName")) <= claims
        for source in charts.references(pod(workload), "configMap"):
            charts.named(objects, "ConfigMap", source["name"])


@each_example
def test_commands_exist(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours = workloads(charts.rendered(example), *COMPONENTS)
    found = {charts.component(workload) for workload in ours}
    assert found == (set(COMPONENTS) if example in TRAINS else set(COMPONENTS) - {"trainer"})
    for workload in ours:
        assert "command" not in container(workload), "the image's entry point is the command musicgen"
        with pytest.raises(SystemExit) as exit_:
            main([*container(workload)["args"], "--help"])
        assert exit_.value.code == 0
        assert f"usage: musicgen {container(workload)['args'][0]}" in capsys.readouterr().out


@each_example
def test_variables_are_settings_and_are_accepted(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = charts.rendered(example)
    [models] = charts.of_kind(objects, "ConfigMap")
    registry = tmp_path / "models.toml"
    registry.write_text(models["data"]["models.toml"])
    names = {entry.name for entry in load_registry(Settings(models=registry)).entries}
    served = set()
    for workload in workloads(objects, *COMPONENTS):
        variables = charts.environment(workload, SECRETS)
        ours = {name for name in variables if name.startswith(PREFIX)}
        assert {name.removeprefix(PREFIX).lower() for name in ours} <= set(Settings.model_fields)
        with monkeypatch.context() as patch:
            for name in ours:
                patch.setenv(name, variables[name])
            settings = load_settings()
        settings.require_secret()
        assert settings.storage == "s3"
        assert mount_of(workload, str(settings.models)), "the registry is mounted"
        assert mount_of(workload, str(settings.data_dir))
        if charts.component(workload) == "api":
            settings.require_safe_binding()
            assert settings.tokens_file is None or mount_of(workload, str(settings.tokens_file))
            assert port_names(workload)["http"] == settings.port == Settings.model_fields["port"].default
        elif charts.component(workload) in ("worker", "trainer"):
            served.add(container(workload)["args"][-1])
            gpus = container(workload)["resources"].get("limits", {}).get("nvidia.com/gpu", 0)
            assert settings.device == ("cuda" if gpus else "cpu")
        metrics = port_names(workload)["metrics"]
        assert str(metrics) == variables["MUSICGEN_METRICS_PORT"]
        assert metrics != settings.port
    assert served == names, "each model of the registry has a set of workers"


def mount_of(workload: Object, path: str) -> bool:
    mounts = [mount["mountPath"] for mount in container(workload)["volumeMounts"]]
    return any(path == mount or path.startswith(f"{mount}/") for mount in mounts)


@each_example
def test_tokens_reach_the_api_alone_and_secrets_only_by_reference(example: str) -> None:
    secret = {"SECRET", "TOKENS", "KEY", "PASSWORD", "SECRETS", "AUTH"}
    for workload in workloads(charts.rendered(example)):
        variables = container(workload).get("env", [])
        names = {variable["name"] for variable in variables}
        assert (charts.component(workload) == "api") == ("MUSICGEN_API_TOKENS" in names)
        for variable in variables:
            if variable["name"].split("_")[-1] in secret and "value" in variable:
                is_file = mount_of(workload, variable["value"])
                assert is_file or re.fullmatch(r"\$\(\w+\)", variable["value"])


def test_nothing_here_is_a_secret_that_works() -> None:
    for path in (*VALUES.values(), CHART / "values.yaml"):
        assert not yaml.safe_load(path.read_text())["secrets"].get("values")
    for example in VALUES:
        assert not charts.of_kind(charts.rendered(example), "Secret")


def test_secrets_from_values_are_for_trials(tmp_path: Path) -> None:
    given = {name: value for name, value in SECRETS.items() if name != "MUSICGEN_REDIS_URL"}
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"secrets": {"values": given}}))
    objects = charts.render("--values", values)
    [secret] = charts.of_kind(objects, "Secret")
    kubernetes_validate.validate(secret, KUBERNETES[-1], strict=True)
    assert secret["stringData"] == given
    names = {reference["name"] for reference in charts.references(objects, "secretKeyRef")}
    assert names == {secret["metadata"]["name"]}
    changed = charts.render("--values", values, "--set", "secrets.values.MUSICGEN_API_TOKENS=another-token")
    for before, after in zip(workloads(objects, *COMPONENTS), workloads(changed, *COMPONENTS), strict=True):
        assert annotations(before) != annotations(after), "what reads them starts again"
    assert "the secrets came from values" in notes("--values", values)


def annotations(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]["metadata"]["annotations"]
    return found


def notes(*arguments: str | Path) -> str:
    """What `helm install` says at its end."""
    said = output("helm", "install", "music", CHART, "--namespace", "music", "--dry-run=client", *arguments)
    return said.partition("NOTES:")[2]


@each_example
def test_pods_are_restricted(example: str) -> None:
    """By the Pod Security Standards' profile `restricted`, and more."""
    for workload in workloads(charts.rendered(example)):
        spec, only = pod(workload), container(workload)
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        kinds = {kind for volume in spec.get("volumes", ()) for kind in set(volume) - {"name"}}
        assert kinds <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}
        assert all("sizeLimit" in volume["emptyDir"] for volume in spec.get("volumes", ()) if "emptyDir" in volume)
        if charts.component(workload) in COMPONENTS:
            assert {"/tmp", "/data"} <= {mount["mountPath"] for mount in only["volumeMounts"]}


def test_users_are_those_of_the_images() -> None:
    for path in ROOT.glob("Dockerfile.*"):
        [user] = re.findall(r"^USER (\d+:\d+)$", path.read_text(), re.MULTILINE)
        for workload in workloads(charts.rendered("two-models"), *COMPONENTS):
            security = pod(workload)["securityContext"]
            assert f"{security['runAsUser']}:{security['runAsGroup']}" == user
            assert security["fsGroup"] == security["runAsGroup"], "volumes can be written"


@each_example
def test_probes_ask_a_port_that_answers(example: str) -> None:
    for workload in workloads(charts.rendered(example), *COMPONENTS):
        only = container(workload)
        for probe, path in HEALTH_PATHS.items():
            request = only[probe]["httpGet"]
            assert request == {"path": path, "port": "http" if charts.component(workload) == "api" else "metrics"}
            assert request["port"] in port_names(workload)
    for workload in workloads(charts.rendered(example), "valkey", "s3"):
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container(workload))


@each_example
def test_there_is_time_to_end(example: str) -> None:
    """At least as much as in the Compose file."""
    for workload in workloads(charts.rendered(example), *COMPONENTS):
        name = charts.component(workload)
        limits = container(workload).get("resources", {}).get("limits", {})
        if name in ("worker", "trainer") and "nvidia.com/gpu" not in limits:
            name += "-cpu"
        assert pod(workload)["terminationGracePeriodSeconds"] >= GRACE_SECONDS[COMPOSE[name]["stop_grace_period"]]
        # Not process 1, which ignores SIGTERM until the model is loaded.
        assert name == "api" or pod(workload)["shareProcessNamespace"]


def test_images_and_the_settings_of_redis_are_those_of_compose() -> None:
    [valkey] = workloads(charts.rendered("minimal"), "valkey")
    [storage] = workloads(charts.rendered("minimal"), "s3")
    assert container(valkey)["image"] == COMPOSE["redis"]["image"]
    assert container(storage)["image"] == COMPOSE["s3"]["image"]
    assert container(storage)["args"] == COMPOSE["s3"]["command"]
    ours = {variable["name"] for variable in container(storage)["env"]}
    assert ours == set(COMPOSE["s3"]["environment"])
    flags = container(valkey)["args"]
    assert flags[: len(COMPOSE["redis"]["command"])] == COMPOSE["redis"]["command"]
    for workload in (valkey, storage):
        assert workload["spec"]["volumeClaimTemplates"]
    images = {container(workload)["image"] for workload in workloads(charts.rendered("cpu"), *COMPONENTS)}
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    workers = {COMPOSE[name]["image"] for name in ("worker-cpu", "trainer-cpu")}
    assert images == {f"{COMPOSE['api']['image']}:{version}", *workers}


def test_a_worker_with_gpus_asks_for_them_and_runs_the_image_with_cuda() -> None:
    for workload in workloads(charts.rendered("two-models"), "worker", "trainer"):
        resources = container(workload)["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == 1
        assert container(workload)["image"] == COMPOSE[charts.component(workload)]["image"]
        assert pod(workload)["runtimeClassName"] == "nvidia"
    melody, other = workloads(charts.rendered("two-models"), "worker")
    assert {melody["spec"]["replicas"], other["spec"]["replicas"]} == {1, 2}
    # A GPU more is not needed for an update.
    assert melody["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


@pytest.mark.parametrize("example", sorted(TRAINS))
def test_what_trains_is_like_what_generates_but_for_what_it_does(example: str) -> None:
    objects = charts.rendered(example)
    [trainer] = workloads(objects, "trainer")
    model = trainer["metadata"]["labels"]["musicgen/model"]
    worker = charts.named(objects, "Deployment", f"music-musicgen-worker-{model}")
    command, options = container(worker)["args"][0], container(worker)["args"][1:]
    assert container(trainer)["args"] == [command, "--trainings", *options]
    assert trainer["spec"].get("replicas", 1) == 1
    assert not charts.matches(worker["spec"]["selector"]["matchLabels"], trainer)
    variables = {variable["name"] for variable in container(trainer)["env"]}
    generating = {variable["name"] for variable in container(worker)["env"]}
    assert generating - variables == {"MUSICGEN_DTYPE"}
    assert variables <= generating
    for placed in ("nodeSelector", "tolerations", "runtimeClassName", "serviceAccountName"):
        assert pod(trainer).get(placed) == pod(worker).get(placed)
    volumes = [{volume["name"]: volume for volume in pod(one)["volumes"]} for one in (trainer, worker)]
    assert volumes[0]["data"] == volumes[1]["data"], "both find the model, and where it was fetched only once"
    assert volumes[0]["temporary"]["emptyDir"]["sizeLimit"] == "20Gi", "a dataset may unpack to 16 GiB"


def test_trainings_change_what_they_name_and_nothing_else() -> None:
    [pocket_model] = pocket()
    given = {"enabled": True, "gpus": 1, "nodeSelector": {"gpu": "large"}, "replicas": 2}
    models = [{**pocket_model, "nodeSelector": {"size": "large"}, "maxRequests": 4, "trainings": given}]
    more = ("--values", VALUES["minimal"], "--set", "contentCredentials.existingSecret=certificate")
    objects = charts.render(*more, "--set-json", f"models={json.dumps(models)}")
    [trainer], [worker] = workloads(objects, "trainer"), workloads(objects, "worker")
    assert (trainer["spec"]["replicas"], worker["spec"]["replicas"]) == (2, 1)
    assert (pod(trainer)["nodeSelector"], pod(worker)["nodeSelector"]) == ({"gpu": "large"}, {"size": "large"})
    resources = container(trainer)["resources"]
    assert resources["requests"] == {**container(worker)["resources"]["requests"], "nvidia.com/gpu": 1}
    assert container(trainer)["image"] == COMPOSE["worker"]["image"]
    assert "nvidia.com/gpu" not in container(worker)["resources"]["requests"]
    missing = {variable["name"] for variable in container(worker)["env"]}
    missing -= {variable["name"] for variable in container(trainer)["env"]}
    assert missing == {"MUSICGEN_MAX_REQUESTS", "MUSICGEN_C2PA_CERTIFICATE", "MUSICGEN_C2PA_KEY"}
    assert "credentials" not in {volume["name"] for volume in pod(trainer)["volumes"]}
    said = notes(*more, "--set-json", f"models={json.dumps(models)}")
    assert "music-musicgen-trainer-pocket, whose image needs the extra finetuning" in said
    assert "share a disk" not in said
    models = [{**models[0], "cache": {"size": "20Gi"}}]
    assert "share a disk" in notes(*more, "--set-json", f"models={json.dumps(models)}")


def test_trainings_are_scaled_by_the_metrics_of_the_api() -> None:
    objects = charts.rendered("cpu")
    [trainer] = workloads(objects, "trainer")
    scaled = charts.named(objects, "ScaledObject", trainer["metadata"]["name"])["spec"]
    assert scaled["scaleTargetRef"] == {"name": trainer["metadata"]["name"]}
    assert "replicas" not in trainer["spec"]
    assert scaled["advanced"]["scalingModifiers"]["target"] == "1", "a worker trains one at a time"
    [service] = [one for one in charts.of_kind(objects, "Service") if one["metadata"]["name"].endswith("-api-metrics")]
    chosen = [one for one in workloads(objects) if charts.matches(service["spec"]["selector"], one)]
    assert [charts.component(one) for one in chosen] == ["api"]
    assert "musicgen/metrics" not in service["metadata"]["labels"], "or Prometheus would ask the API twice"
    [port] = service["spec"]["ports"]
    # Without an address of its own the Service does not translate ports.
    assert port["port"] == port_names(chosen[0])["metrics"]
    address = f"http://{service['metadata']['name']}.{charts.NAMESPACE}:{port['port']}/metrics"
    assert {trigger["metadata"]["url"] for trigger in scaled["triggers"]} == {address}
    names = {one["metadata"]["name"] for one in charts.of_kind(charts.rendered("two-models"), "Service")}
    assert service["metadata"]["name"] not in names, "without KEDA nobody asks there"


@pytest.mark.parametrize("example", ["production", "cpu"])
def test_workers_are_scaled_by_what_waits_and_runs(example: str) -> None:
    objects = charts.rendered(example)
    [worker] = workloads(objects, "worker")
    scaled = charts.named(objects, "ScaledObject", worker["metadata"]["name"])
    assert "replicas" not in worker["spec"], "or an update of the release would undo what KEDA has done"
    spec = scaled["spec"]
    assert spec["minReplicaCount"] == 0
    triggers = {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"]}
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    assert set(re.findall(r"\w+", formula)) == set(triggers) == {"waiting", "running"}
    assert spec["initialCooldownPeriod"] >= container(worker)["startupProbe"]["failureThreshold"] * 5
    [api] = [one for one in charts.of_kind(objects, "Service") if one["metadata"]["name"].endswith("-api")]
    [port] = api["spec"]["ports"]
    for metadata in triggers.values():
        assert metadata["url"] == f"http://{api['metadata']['name']}.{charts.NAMESPACE}:{port['port']}/health-check"


def test_the_api_is_scaled_by_load_where_that_is_chosen() -> None:
    objects = charts.rendered("production")
    [api] = workloads(objects, "api")
    assert "replicas" not in api["spec"]
    [scaler] = charts.of_kind(objects, "HorizontalPodAutoscaler")
    assert scaler["spec"]["minReplicas"] == 3
    # A percentage of what is requested: without a request there is none.
    assert "cpu" in container(api)["resources"]["requests"]
    assert not charts.of_kind(charts.rendered("minimal"), "HorizontalPodAutoscaler")


def test_metrics_are_on_no_public_address() -> None:
    for example in VALUES:
        for service in charts.of_kind(charts.rendered(example), "Service"):
            names = {port["name"] for port in service["spec"]["ports"]}
            assert ("metrics" in names) == (service["spec"].get("clusterIP") == "None")
    [ingress] = charts.of_kind(charts.rendered("production"), "Ingress")
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    [scraped] = charts.of_kind(charts.rendered("two-models"), "PodMonitor")
    chosen = scraped["spec"]["selector"]["matchLabels"]
    everything = workloads(charts.rendered("two-models"))
    assert {charts.component(one) for one in everything if charts.matches(chosen, one)} == set(COMPONENTS)


@each_example
def test_only_our_processes_reach_redis(example: str) -> None:
    objects = charts.rendered(example)
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in charts.of_kind(objects, "NetworkPolicy")}
    for workload in workloads(objects, "valkey"):
        policy = policies[workload["metadata"]["name"]]
        assert charts.matches(policy["podSelector"]["matchLabels"], workload)
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert "egress" not in policy
        [rule] = policy["ingress"]
        [peer] = rule["from"]
        [expression] = peer["podSelector"]["matchExpressions"]
        assert set(expression["values"]) == set(COMPONENTS)
        assert rule["ports"] == [{"port": "redis", "protocol": "TCP"}]


def test_a_closed_network_lets_in_and_out_what_the_values_say() -> None:
    policies = {
        policy["metadata"]["name"].removeprefix("music-musicgen"): policy["spec"]
        for policy in charts.of_kind(charts.rendered("tenants"), "NetworkPolicy")
    }
    values = yaml.safe_load(VALUES["tenants"].read_text())["networkPolicy"]
    assert policies["-api"]["ingress"][0]["from"] == values["clients"]
    assert policies["-s3"]["ingress"][0]["from"][1:] == values["clients"]
    assert policies[""]["ingress"][0]["from"] == values["scrapers"]
    *_, outside, extra = policies[""]["egress"]
    assert "169.254.0.0/16" in outside["to"][0]["ipBlock"]["except"], "where clouds give away a node's credentials"
    assert [extra] == values["egress"]["extra"]
    with_keda = charts.render("--values", VALUES["tenants"], "--set", "keda.enabled=true")
    peers = charts.named(with_keda, "NetworkPolicy", "music-musicgen-api")["spec"]["ingress"][0]["from"]
    assert peers[0] == values["clients"][0]
    assert len(peers) == 2
    scraped = charts.named(with_keda, "NetworkPolicy", "music-musicgen")["spec"]["ingress"][0]["from"]
    assert scraped == values["scrapers"], "without trainings KEDA reads no metrics"
    models = json.dumps([{**pocket()[0], "trainings": {"enabled": True}}])
    trained = ("--values", VALUES["tenants"], "--set", "keda.enabled=true", "--set-json", f"models={models}")
    policy = charts.named(charts.render(*trained), "NetworkPolicy", "music-musicgen")["spec"]
    assert policy["ingress"][0]["from"] == [*values["scrapers"], peers[1]]


def test_the_registry_says_what_the_values_say(tmp_path: Path) -> None:
    [models] = charts.of_kind(charts.rendered("two-models"), "ConfigMap")
    registry = tmp_path / "models.toml"
    registry.write_text(models["data"]["models.toml"])
    loaded = load_registry(Settings(models=registry))
    assert loaded.default.name == "facebook/musicgen-melody"
    other = loaded.entry("fofr/musicgen-kenji-kawai")
    assert other.defaults == {"duration": 12, "normalization_strategy": "peak"}
    assert (other.abilities.continuation, other.abilities.max_duration) == (False, 20)
    changed = charts.render("--values", VALUES["two-models"], "--set", "models[1].default=true,models[0].default=false")
    [models] = charts.of_kind(changed, "ConfigMap")
    registry.write_text(models["data"]["models.toml"])
    assert load_registry(Settings(models=registry)).default == other
    before, after = (workloads(objects, *COMPONENTS) for objects in (charts.rendered("two-models"), changed))
    for old, new in zip(before, after, strict=True):
        assert annotations(old) != annotations(new), "what reads it starts again"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("secrets.existingSecret=", "There is no MUSICGEN_SECRET: name a Secret that has it as secrets.existingSecret"),
        ("versitygw.enabled=true,s3.endpoint=https://s3.example.com", "set versitygw.enabled=false"),
        ("s3.keys=false", "versitygw needs keys"),
        ("ingress.enabled=true", "The ingress needs ingress.host"),
        ("models[0].scale.min=3,models[0].scale.max=2", "scale.min above scale.max"),
        (
            "models[0].trainings.enabled=true,models[0].trainings.scale.min=3",
            "trainings.scale.min above trainings.scale.max",
        ),
        (
            "models[0].trainings.enabled=true,models[0].cache.size=9Gi,models[0].cache.accessMode=ReadWriteOncePod",
            "set cache.accessMode to ReadWriteMany",
        ),
        ("models[0].trainings.dtype=int8", "additional properties 'dtype' not allowed"),
        ("models[0].model=pocket", "'/models/0/model'"),
        ("models[0].replica=2", "additional properties 'replica' not allowed"),
        ("settings.retention_hour=2", "'retention_hour'"),
        ("settings.redis_url=x", "'redis_url'"),
        ("api.replicas=0", "'/api/replicas'"),
        ("secrets.values.VALKEY_PASSWORD=a@b", "'/secrets/values/VALKEY_PASSWORD'"),
        ("monitoring.kind=Monitor", "'/monitoring/kind'"),
    ],
)
def test_wrong_values_are_refused(change: str, said: str) -> None:
    base = ("--values", VALUES["minimal"], "--set-json", f"models={json.dumps(pocket())}")
    done = run("helm", "template", "music", CHART, *base, "--set", change)
    assert done.returncode != 0
    assert said in done.stderr


def pocket() -> list[Object]:
    models: list[Object] = yaml.safe_load((CHART / "values.yaml").read_text())["models"]
    return models


def test_two_sets_cannot_have_one_name_or_one_model() -> None:
    [one] = pocket()
    for second, said in (({**one, "model": "ann/other"}, "have one name"), ({**one, "name": "b"}, "is there twice")):
        models = json.dumps([one, second])
        done = run("helm", "template", "music", CHART, "--values", VALUES["minimal"], "--set-json", f"models={models}")
        assert said in done.stderr


def test_every_setting_can_be_set() -> None:
    """By `settings`, or by a value of its own: in one of the two, and not in both."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    free = set(schema["properties"]["settings"]["propertyNames"]["enum"])
    everything = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    own = {name.removeprefix(PREFIX).lower() for name in re.findall(rf"{PREFIX}[A-Z0-9_]+\b", everything)}
    # The image's; the registry takes the place of the one model, a port that of `musicgen serve`'s sockets, and workers
    # that of what it runs.
    elsewhere = {"revision", "model", "metrics_socket", "trainings"}
    assert not free & own
    assert free | own | elsewhere == set(Settings.model_fields)


def test_every_value_is_explained_and_in_the_schema() -> None:
    cells = re.findall(r"^\| (`[^|]+`) \|", (CHART / "README.md").read_text(), re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    properties = schema["$defs"]["model"]["properties"]
    model = {f"models[].{name}" for name in properties}
    model |= {f"models[].trainings.{name}" for name in properties["trainings"]["properties"]}
    assert documented == {path for path in leaves(values) if not path.startswith("models")} | model
    assert set(values) == set(schema["properties"]) - {"global"}


def leaves(values: Object, above: str = "") -> set[str]:
    """The paths of values; what belongs together, such as resources, is one."""
    whole = {"resources", "storage", "annotations", "api.service", "images.api", "images.cuda", "images.cpu"}
    result = set()
    for name, value in values.items():
        path = f"{above}{name}"
        inner = isinstance(value, dict) and value and name not in whole and path not in whole
        result |= leaves(value, f"{path}.") if inner else {path}
    return result


def test_the_chart_has_the_version_of_the_service() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["version"] == chart["appVersion"] == version
    assert chart["kubeVersion"].startswith(f">={KUBERNETES[0]}.")


@each_example
def test_the_notes_say_how_to_go_on(example: str) -> None:
    said = notes("--values", VALUES[example])
    assert "/health-check" in said
    assert ("cold start" in said) == (example in {"production", "cpu"})
    assert "the secrets came from values" not in said
    assert "no TLS" not in said


def test_kustomize_changes_what_helm_rendered(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text((ROOT / "deploy" / "kustomize" / "kustomization.yaml").read_text())
    (tmp_path / "musicgen.yaml").write_text(yaml.safe_dump_all(charts.rendered("minimal")))
    objects = [found for found in yaml.safe_load_all(output("kubectl", "kustomize", tmp_path)) if found]
    assert len(objects) == len(charts.rendered("minimal"))
    for found in objects:
        kubernetes_validate.validate(found, KUBERNETES[-1], strict=True)
        assert found["metadata"]["namespace"] == "music"
    [worker] = workloads(objects, "worker")
    assert container(worker)["image"] == "registry.example.com/music/musicgen-worker:cpu"
    assert pod(worker)["nodeSelector"] == {"size": "large"}


def test_the_document_installs_what_it_shows() -> None:
    """Its helm commands render, and its Secret has the keys that the first of them needs."""
    document = (ROOT / "docs" / "deploy.md").read_text()
    commands = re.findall(r"^helm (install|upgrade --install) (\S+) (\S+) -n (\S+) -f (\S+)$", document, re.MULTILINE)
    assert len(commands) == document.count("\nhelm ") == 2
    for _, release, chart, namespace, values in commands:
        output("helm", "template", release, ROOT / chart, "--namespace", namespace, "--values", ROOT / values)
    assert [values for *_, values in commands] == [
        str(VALUES[name].relative_to(ROOT)) for name in ("minimal", "production")
    ]
    objects = charts.rendered("minimal")
    [name] = re.findall(r"create secret generic (\S+) \\\n", document)
    needed = {
        (reference["name"], reference["key"])
        for workload in workloads(objects)
        for reference in charts.references(pod(workload), "secretKeyRef")
        if not reference.get("optional")
    }
    assert needed == {(name, key) for key in re.findall(r"--from-literal=(\w+)=", document)}
    services = {service["metadata"]["name"]: service["spec"]["ports"] for service in charts.of_kind(objects, "Service")}
    for service, port in re.findall(r"port-forward svc/(\S+) \d+:(\d+)", document):
        assert int(port) in {item["port"] for item in services[service]}
    built = set(re.findall(r"^docker build .*-t (musicgen-\w+:\w+)", document, re.MULTILINE))
    assert {container(workload)["image"] for workload in workloads(objects, *COMPONENTS)} <= built
