"""What is shipped to run a gateway with: systemd takes the unit, and it shuts the gateway in; compose and Kubernetes
take their files, and what these name is there."""

import base64
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.request

import kubernetes_validate
import pytest
import yaml
from conftest import SHUNT
from postgres import Cluster

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def unit(tmp_path):
    text = (ROOT / "config/shunt.service").read_text()
    file = tmp_path / "shunt.service"
    # Verified with a program that is there.
    file.write_text(text.replace("/usr/local/bin/shunt ", "/bin/true "))
    return file


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_takes_the_unit_without_a_word(unit):
    told = analyze("verify", str(unit))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
    # It does find what is wrong.
    unit.write_text(unit.read_text() + "\n[Service]\nNoSuchKey=1\n")
    assert "NoSuchKey" in analyze("verify", str(unit)).stderr


def test_the_unit_leaves_a_broken_gateway_little(unit):
    told = analyze("security", "--offline=true", "--threshold=20", str(unit))
    assert told.returncode == 0, told.stdout[-2000:]


def test_a_stop_waits_longer_than_the_gateway_drains():
    stop = int(re.search(r"^TimeoutStopSec=(\d+)s", (ROOT / "config/shunt.service").read_text(), re.M)[1])
    drain = int(re.search(r'^drain *= "(\d+)s"', (ROOT / "config/reference.toml").read_text(), re.M)[1])
    assert stop > drain


# The image.


def test_the_image_runs_a_valid_configuration_that_a_published_port_reaches_and_keeps_its_admin_listener_inside(tmp_path):
    text = (ROOT / "Dockerfile").read_text()
    command = json.loads(re.search(r"^CMD (\[.*\])$", text, re.M)[1])
    assert command[:2] == ["serve", "--config"] and "\nCOPY config /etc/shunt\n" in text
    file = ROOT / "config" / pathlib.Path(command[2]).relative_to("/etc/shunt")
    told = subprocess.run([SHUNT, "check", "--config", str(file)], capture_output=True, text=True, timeout=20)
    assert told.returncode == 0, told.stderr
    config = tomllib.loads(file.read_text())
    public, admin = config["listen"]["public"], config["listen"]["admin"]
    ports = [address.rsplit(":", 1)[1] for address in (public, admin)]
    assert public.startswith("0.0.0.0:") and admin.startswith("127.0.0.1:")
    assert f"\nEXPOSE {' '.join(ports)}\n" in text and f"http://{admin}/readyz" in text
    assert f"-p 127.0.0.1:{ports[0]}:{ports[0]}" in text
    # It differs from the newcomer's in nothing else.
    newcomer = tomllib.loads((ROOT / "config/shunt.toml").read_text())
    assert config == newcomer | {"listen": newcomer["listen"] | {"public": public}}
    # And so it starts: with one key, in a folder that it may write to.
    open_ports = file.read_text().replace(public, "0.0.0.0:0").replace(admin, "127.0.0.1:0")
    (tmp_path / "shunt.toml").write_text(open_ports)
    command = [SHUNT, "serve", "--config", str(tmp_path / "shunt.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"OPENAI_API_KEY": "x"}, cwd=tmp_path)
    try:
        process.stdout.readline()
        address = process.stdout.readline().split()[-1]
        assert urllib.request.urlopen(f"{address}/readyz", timeout=10).status == 200
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0


# Compose.

COMPOSE = ROOT / "config/compose.yaml"
KUBERNETES = ROOT / "config/kubernetes"


def compose():
    return yaml.safe_load(COMPOSE.read_text())


def configuration(folder):
    return tomllib.loads((ROOT / "config" / folder / "shunt.toml").read_text())


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def longest_budget(config):
    return max(seconds(route["budget"]["total"]) for route in config["routes"])


def variables(value):
    """Every environment variable that a configuration reads a secret from."""
    if isinstance(value, dict):
        if isinstance(value.get("env"), str):
            yield value["env"]
        for inner in value.values():
            yield from variables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from variables(inner)


def test_compose_keeps_to_its_specification(tmp_path):
    """The schema of the Compose specification, as check-jsonschema carries it."""
    check = pathlib.Path(sys.executable).with_name("check-jsonschema")

    def told(file):
        command = [check, "--builtin-schema", "vendor.compose-spec", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    assert told(COMPOSE)[0] == 0, told(COMPOSE)[1]
    # It does find what is wrong.
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("stop_grace_period", "stop_grace"))
    code, says = told(wrong)
    assert code == 1 and "'stop_grace' was unexpected" in says


def test_compose_mounts_what_is_there_and_opens_the_ports_that_are_listened_at():
    services, config = compose()["services"], configuration("compose")
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (COMPOSE.parent / source).exists() if source.startswith(".") else source in compose()["volumes"], name
        assert set(service.get("depends_on", [])) <= set(services)
        # Nothing is open to other hosts.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    shunt = services["shunt"]
    assert f":{config['listen']['public'].split(':')[1]}" in shunt["ports"][0]
    assert len(shunt["ports"]) == 1, "the admin listener is for Prometheus alone"
    named = shunt["volumes"][0].split(":")
    assert (named[0], named[1]) == ("./compose/shunt.toml", shunt["command"][-1])
    assert set(variables(config)) | {"PGPASSWORD", "SHUNT_SEAL_KEYS"} == set(shunt["environment"])
    store = re.fullmatch(r"postgres://(\w+)@(\w+)/(\w+)", config["cold"]["store"]).groups()
    database = services["postgres"]["environment"]
    assert store == (database["POSTGRES_USER"], "postgres", database["POSTGRES_DB"])
    assert seconds(shunt["stop_grace_period"]) > seconds(config["server"]["drain"]) > longest_budget(config)


def test_composes_prometheus_and_grafana_find_the_gateway_and_each_other():
    services, config = compose()["services"], configuration("compose")
    prometheus = yaml.safe_load((ROOT / "config/compose/prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert found["names"] == ["shunt"] and found["port"] == int(config["listen"]["admin"].split(":")[1])
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{services['prometheus']['secrets'][0]}"
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in services["prometheus"]["volumes"]}
    for rules in prometheus["rule_files"]:
        folder, name = rules.split("/")
        assert (COMPOSE.parent / mounted[f"/etc/prometheus/{folder}"] / name).is_file()
    example = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())
    assert prometheus["global"] == example["global"]
    source = yaml.safe_load((ROOT / "config/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((ROOT / "config/grafana/provisioning/dashboards/shunt.yml").read_text())
    assert f"./grafana/dashboards:{boards['providers'][0]['options']['path']}:ro" in services["grafana"]["volumes"]


@pytest.mark.parametrize("file", ["compose/prometheus.yml", "kubernetes/prometheus.yml"])
def test_prometheus_takes_its_configuration(file, tmp_path):
    text = (ROOT / "config" / file).read_text()
    # Debian's is built without Kubernetes.
    found = "    kubernetes_sd_configs:\n      - role: pod\n"
    assert (found in text) == file.startswith("kubernetes")
    (tmp_path / "prometheus.yml").write_text(text.replace(found, "    static_configs: [{ targets: [a] }]\n"))
    command = ["promtool", "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr + told.stdout


@pytest.mark.parametrize("folder", ["compose", "kubernetes"])
def test_a_deployed_configuration_starts_on_postgresql_and_keeps_its_admin_listener_shut(folder, tmp_path):
    file = ROOT / "config" / folder / "shunt.toml"
    told = subprocess.run([SHUNT, "check", "--config", str(file)], capture_output=True, text=True, timeout=20)
    assert told.returncode == 0, told.stderr
    cluster = Cluster()
    try:
        text = file.read_text()
        for old, new in [
            ("0.0.0.0:8080", "127.0.0.1:0"),
            ("0.0.0.0:8081", "0.0.0.0:0"),
            ("postgres://shunt@postgres/shunt", cluster.database()[1]),
        ]:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "shunt.toml").write_text(text)
        secrets = {name: "x" * 40 for name in variables(configuration(folder))}
        secrets["SHUNT_SEAL_KEYS"] = "k1:" + base64.b64encode(bytes(32)).decode()
        command = [SHUNT, "serve", "--config", str(tmp_path / "shunt.toml")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=secrets, cwd=tmp_path)
        try:
            process.stdout.readline()
            port = process.stdout.readline().strip().rsplit(":", 1)[1]

            def status(path, **headers):
                request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
                try:
                    return urllib.request.urlopen(request, timeout=10).status
                except urllib.error.HTTPError as error:
                    return error.code

            assert (status("/readyz"), status("/healthz"), status("/metrics")) == (200, 200, 401)
            assert status("/metrics", Authorization=f"Bearer {'x' * 40}") == 200
        finally:
            process.terminate()
            assert process.wait(timeout=40) == 0
        # All that it keeps is in the database: its file system may be read-only.
        assert [one.name for one in tmp_path.iterdir()] == ["shunt.toml"]
    finally:
        cluster.close()


# Kubernetes.


def resources():
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    all = {}
    for name in kustomization["resources"]:
        one = yaml.safe_load((KUBERNETES / name).read_text())
        all[one["kind"]] = one
    return all


def test_kubernetes_takes_each_resource():
    for one in resources().values():
        kubernetes_validate.validate(one, "1.34", strict=True)
    wrong = resources()["Deployment"]
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, "1.34", strict=True)


def test_what_the_resources_name_is_there():
    all, config = resources(), configuration("kubernetes")
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    deployment = all["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == all["Service"]["spec"]["selector"] == labels
    assert all["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert all["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == all["Deployment"]["metadata"]["name"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listen = {name: int(address.split(":")[1]) for name, address in config["listen"].items()}
    assert ports == listen
    assert all["Service"]["spec"]["ports"][0]["targetPort"] == "public"
    assert container["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert container["readinessProbe"]["tcpSocket"] == {"port": "public"}
    [generated] = kustomization["configMapGenerator"]
    assert pod["volumes"][0]["configMap"]["name"] == generated["name"]
    assert container["args"][-1] == f"{container['volumeMounts'][0]['mountPath']}/{generated['files'][0]}"
    given = {one["name"] for one in container["env"]}
    assert given == set(variables(config)) | {"PGPASSWORD", "SHUNT_SEAL_KEYS"}
    # Every key of the secret is made by the command that the file tells.
    made = re.findall(r"--from-literal=([\w-]+)=", (KUBERNETES / "kustomization.yaml").read_text())
    assert sorted(made) == sorted(one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"])
    assert kustomization["images"][0]["name"] == container["image"]


def test_a_pod_is_let_end_its_longest_call():
    pod, config = resources()["Deployment"]["spec"]["template"]["spec"], configuration("kubernetes")
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = seconds(config["server"]["drain"])
    assert pod["terminationGracePeriodSeconds"] > before + drain
    assert drain > longest_budget(config)
    probe = pod["containers"][0]["readinessProbe"]
    assert before >= probe["periodSeconds"] * probe["failureThreshold"]


def test_gateways_are_scaled_by_a_metric_that_they_tell(gateway):
    [metric, cpu] = resources()["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    [rule] = yaml.safe_load((KUBERNETES / "adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == name and rule["seriesQuery"].startswith(f"{name}{{")
    told = gateway.fetch(gateway.admin + "/metrics")[2].decode()
    assert f"# TYPE {name} gauge" in told and f"\n{name}{{" in told
    assert cpu["resource"]["name"] in resources()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
