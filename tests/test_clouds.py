"""Each cloud's modules through real Terraform: the same variables and outputs, closed and sound.

AWS by its real provider with nothing behind it, the others by stand-ins that are true to their
schemas. One `init` a cloud, shared by its modules.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nightingale_hub.terraform.provider import COOKIE
from nightingale_hub.terraform.workspace import MODULES
from tests.aws import find_mirror, needs_mirror
from tests.standin.mirror import make_mirror
from tests.standin.provider import SCHEMAS
from tests.terraform_cloud import TERRAFORM

CLOUDS = ("aws", "azure", "gcp", "gcp_cloud_run", "local")
KINDS = ("network", "dataset", "home", "instance")
STANDINS = {"azure": "azurerm", "gcp": "google", "gcp_cloud_run": "google"}
with_provider = [
    pytest.param("aws", marks=needs_mirror),
    "azure",
    "gcp",
    "gcp_cloud_run",
    "local",
]


class Clouds:
    """Where each cloud's modules are tried, and the stand-ins that serve them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mirror = make_mirror(folder / "mirror")
        self.processes: list[subprocess.Popen[str]] = []
        self.attached: dict[str, dict[str, object]] = {}
        for name in sorted(set(STANDINS.values())):
            schema = json.loads((SCHEMAS / f"{name}.json").read_text())
            command = [sys.executable, "-m", "tests.standin.provider", name]
            self.attached[schema["source"]] = self._start(name, command)
        self.initialized: dict[str, Path] = {}

    def _start(self, name: str, command: list[str]) -> dict[str, object]:
        """Start one provider for every command to come: by itself Terraform starts it for each."""
        sockets = self.folder / name
        sockets.mkdir()
        process = subprocess.Popen(
            command,
            env=os.environ | COOKIE | {"PLUGIN_UNIX_SOCKET_DIR": str(sockets)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        _, version, network, address, *_ = process.stdout.readline().split("|")
        return {
            "Protocol": "grpc",
            "ProtocolVersion": int(version),
            "Pid": process.pid,
            "Test": True,
            "Addr": {"Network": network, "String": address},
        }

    def prepare(self, cloud: str, kind: str, text: str = "") -> "Tried":
        """Return a place to try a module in; *text* is put in its main.tf's stead."""
        place = Tried(self, cloud, self.folder / f"{cloud}-{kind}-{os.urandom(3).hex()}")
        module = MODULES / cloud / kind
        shutil.copytree(module, place.directory)
        if text:
            (place.directory / "main.tf").write_text(text)
        if cloud != "local":
            override = 'terraform {\n  backend "local" {}\n}\n'
            (place.directory / "backend_override.tf").write_text(override)
            self._link(cloud, place)
        return place

    def _link(self, cloud: str, place: "Tried") -> None:
        if cloud not in self.initialized:
            done = place.run("init", "-input=false", "-no-color", attach=False)
            assert done.returncode == 0, done.stdout + done.stderr
            self.initialized[cloud] = place.directory
            if cloud == "aws":
                self._attach_aws(place.directory)
            return
        for name in (".terraform", ".terraform.lock.hcl"):
            (place.directory / name).symlink_to(self.initialized[cloud] / name)

    def _attach_aws(self, directory: Path) -> None:
        [binary] = directory.glob(".terraform/providers/*/*/*/*/*/terraform-provider-aws_*")
        self.attached["registry.terraform.io/hashicorp/aws"] = self._start("aws", [str(binary)])

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


class Tried:
    """One module in a directory of its own."""

    def __init__(self, clouds: Clouds, cloud: str, directory: Path) -> None:
        self.clouds = clouds
        self.cloud = cloud
        self.directory = directory

    def run(self, *arguments: str, attach: bool = True) -> subprocess.CompletedProcess[str]:
        rc = self.directory / "terraform.rc"
        mirror = find_mirror() if self.cloud == "aws" else self.clouds.mirror
        rc.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
        )
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "TF_CLI_CONFIG_FILE": str(rc),
            "CHECKPOINT_DISABLE": "1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nobody",
        }
        if attach:
            environment["TF_REATTACH_PROVIDERS"] = json.dumps(self.clouds.attached)
        return subprocess.run(
            [*TERRAFORM, *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def apply(self, variables: dict[str, object]) -> dict[str, object]:
        """Plan and apply it; return its outputs."""
        (self.directory / "terraform.tfvars.json").write_text(json.dumps(variables))
        for step in (
            ("plan", "-input=false", "-no-color", "-out=plan"),
            ("apply", "-input=false", "-no-color", "plan"),
        ):
            done = self.run(*step)
            assert done.returncode == 0, done.stdout + done.stderr
        shown = json.loads(self.run("output", "-json").stdout)
        return {name: each["value"] for name, each in shown.items()}

    def plan_again(self) -> int:
        """Return Terraform's word on what is left to do: 0 for nothing."""
        return self.run("plan", "-input=false", "-detailed-exitcode").returncode


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    # The path of a socket is short.
    made = Clouds(tmp_path_factory.mktemp("c"))
    try:
        yield made
    finally:
        made.close()


def read_variables(cloud: str, kind: str) -> dict[str, str]:
    """Return each variable's type and default as they are written."""
    text = (MODULES / cloud / kind / "variables.tf").read_text()
    found = {}
    for block in re.split(r"^}\n", text, flags=re.MULTILINE):
        name = re.search(r'variable "(\w+)"', block)
        if name is None:
            continue
        kind_of = re.search(r"type\s+= ((?:.|\n)*?)\n(?=\n|  default|$)", block)
        assert kind_of, f"{cloud}/{kind}: {name[1]} has no type"
        assert re.search(r'description = ".+[.]"', block), f"{cloud}/{kind}: {name[1]}"
        default = re.search(r"default\s+= (.*)", block)
        found[name[1]] = f"{kind_of[1]} = {default[1] if default else None}"
    return found


def read_outputs(cloud: str, kind: str) -> list[str]:
    text = (MODULES / cloud / kind / "outputs.tf").read_text()
    assert text.count("description = ") == text.count("output ")
    return re.findall(r'output "(\w+)"', text)


@pytest.mark.parametrize("kind", KINDS)
def test_all_clouds_have_the_same_variables_and_outputs(kind):
    first, *others = CLOUDS
    variables, outputs = read_variables(first, kind), read_outputs(first, kind)
    assert len(variables) >= 6
    for cloud in others:
        assert read_variables(cloud, kind) == variables, f"{cloud}/{kind}"
        assert read_outputs(cloud, kind) == outputs, f"{cloud}/{kind}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_module_is_four_files_with_its_provider_pinned(cloud, kind):
    module = MODULES / cloud / kind
    assert {each.name for each in module.glob("*.tf")} == {
        f"{name}.tf" for name in ("main", "outputs", "variables", "versions")
    }
    pins = re.findall(r' version\s+= "(.*)"', (module / "versions.tf").read_text())
    assert [re.fullmatch(r"\d+\.\d+\.\d+", pin) is not None for pin in pins] == [True] * (
        cloud != "local"
    )


def test_the_modules_are_formatted():
    done = subprocess.run(
        [*TERRAFORM, "fmt", "-check", "-recursive", "-diff", str(MODULES)],
        env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cloud", with_provider)
def test_a_module_is_valid_and_keeps_what_it_promises(clouds, cloud, kind):
    tried = clouds.prepare(cloud, kind)
    done = tried.run("validate", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    if cloud == "local":
        return
    done = tried.run("test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", done.stdout), done.stdout


WHERE = {
    "azure": {"region": "westeurope", "zones": ["1", "2"], "group": "nightingale"},
    "gcp": {
        "region": "europe-west4",
        "zones": ["europe-west4-a", "europe-west4-b"],
        "group": "nightingale-test",
    },
    "local": {"region": "here", "zones": ["here"], "group": "/srv/nightingale"},
}
WHERE["gcp_cloud_run"] = WHERE["gcp"]
SNAPSHOT = {
    "azure": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/snapshots/ecg",
    "gcp": "projects/p/global/snapshots/ecg",
    "gcp_cloud_run": "projects/p/locations/europe-west4-a/volumes/v/snapshots/ecg",
    "local": "/srv/data/ecg",
}
MADE = {
    "azure": (
        "Standard_NC4as_T4_v3",
        "Standard_NC8as_T4_v3",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/nightingale",
    ),
    "gcp": ("g2-standard-4", "g2-standard-8", "projects/p/global/images/nightingale"),
    "gcp_cloud_run": (
        "cpu-4-memory-16-gpu-nvidia-l4",
        "cpu-8-memory-32-gpu-nvidia-l4",
        f"example.com/nightingale@sha256:{'0' * 64}",
    ),
}
NONCE = "5ca1ab1e" * 8


@pytest.fixture(scope="module")
def stood(clouds):
    """Return, per cloud, what an instance stands on: made once."""
    made: dict[str, dict[str, object]] = {}

    def stand(cloud: str) -> dict[str, object]:
        if cloud in made:
            return made[cloud]
        where = dict(WHERE[cloud])
        common = {"hub_id": "test", "region": where["region"], "zones": where["zones"]}
        network = clouds.prepare(cloud, "network").apply(
            {**common, "group": where["group"], "hub_cidrs": ["10.0.0.0/24"]}
        )
        home = clouds.prepare(cloud, "home").apply(
            {**common, **network, "home_id": "f00d", "owner_hash": "0123456789", "disk_gib": 50}
        )
        dataset = clouds.prepare(cloud, "dataset").apply(
            {**common, **network, "name": "ecg", "disk_gib": 200, "snapshot": SNAPSHOT[cloud]}
        )
        made[cloud] = {**network, **home, "datasets": [dataset["dataset_ref"]]}
        return made[cloud]

    return stand


@pytest.mark.parametrize("cloud", ["azure", "gcp", "gcp_cloud_run"])
def test_an_instance_is_made_on_what_was_made_before_and_resized(clouds, stood, cloud):
    small, large, image = MADE[cloud]
    wanted = {
        **stood(cloud),
        "instance_id": "i-0123456789ab",
        "hub_id": "test",
        "owner_hash": "0123456789",
        "region": WHERE[cloud]["region"],
        "size": {"type": small, "vcpus": 4, "gpu": "S", "disk_gib": 50},
        "image": image,
        "bootstrap": {"hub_url": "https://hub.example/", "nonce": NONCE},
    }
    place = clouds.prepare(cloud, "instance")
    before = place.apply(wanted)
    assert before["zone"] == WHERE[cloud]["zones"][0]
    assert before["home_id"] == wanted["home_ref"]["id"]
    assert before["identity_subject"]
    assert bool(before["private_ip"]) != bool(before["endpoint"])
    assert place.plan_again() == 0
    # Another image, another nonce: nothing that runs is touched. Another type: in place.
    wanted["bootstrap"] = {**wanted["bootstrap"], "nonce": "0" * 64}
    if cloud != "gcp_cloud_run":
        (place.directory / "terraform.tfvars.json").write_text(json.dumps(wanted))
        assert place.plan_again() == 0
    wanted["size"] = {**wanted["size"], "type": large}
    after = place.apply(wanted)
    assert (after["cloud_id"], after["home_id"]) == (before["cloud_id"], before["home_id"])


def test_what_the_local_modules_say_fits_together(stood):
    said = stood("local")
    assert said["home_ref"]["path"] == "/srv/nightingale/homes/f00d"
    assert said["datasets"][0]["path"] == "/srv/data/ecg"


ALLOWS = {
    "azurerm_network_security_rule": lambda each: each["access"] == "Allow",
    "google_compute_firewall": lambda each: bool(each["allow"]),
}


@pytest.mark.parametrize("cloud", ["azure", "gcp", "gcp_cloud_run"])
def test_nothing_else_in_a_network_lets_anything_through(clouds, cloud):
    place = clouds.prepare(cloud, "network")
    place.apply({**WHERE[cloud], "hub_id": "test", "hub_cidrs": ["10.0.0.0/24"]})
    state = json.loads(place.run("show", "-json").stdout)["values"]["root_module"]["resources"]
    allowing = {
        each["name"]
        for each in state
        if each["type"] in ALLOWS and ALLOWS[each["type"]](each["values"])
    }
    assert allowing == {"hub_in", "hub_out"}


@pytest.mark.parametrize("cloud", ["azure", "gcp", "gcp_cloud_run"])
def test_whatever_can_bear_tags_says_hub_and_purpose(clouds, cloud):
    for kind in KINDS:
        text = (MODULES / cloud / kind / "main.tf").read_text()
        schema = json.loads((SCHEMAS / f"{STANDINS[cloud]}.json").read_text())["resource_schemas"]
        for resource in re.finditer(r'^resource "(\w+)" "\w+" {\n(.*?)^}', text, re.M | re.S):
            attributes = schema[resource[1]]["block"]["attributes"]
            if not {"tags", "labels"} & set(attributes):
                continue
            if resource[1] == "google_compute_instance":  # its `tags` are the network's
                assert "labels  " in resource[2]
            assert re.search(r"^  (tags|labels) +=", resource[2], re.M), (cloud, resource[0][:60])


@pytest.mark.parametrize(
    ("fault", "before", "after", "says"),
    [
        (
            "misspelt",
            "  disk_size_gb ",
            "  disk_size_gigs ",
            'named "disk_size_gigs" is not expected',
        ),
        ("wrong type", "= var.disk_gib", '= "large"', "a number is required"),
        (
            "missing",
            '  create_option                 = "Empty"\n',
            "",
            '"create_option" is required',
        ),
        (
            "no such block",
            "  lifecycle {",
            "  backup {}\n  lifecycle {",
            'type "backup" are not expected',
        ),
        (
            "no such type",
            '"azurerm_managed_disk" "home"',
            '"azurerm_disk" "home"',
            "Invalid resource type",
        ),
        ("computed", "  create_option ", '  id2 = "x"\n  create_option ', '"id2" is not expected'),
    ],
)
def test_a_stand_in_catches_what_the_real_provider_would(clouds, fault, before, after, says):
    text = (MODULES / "azure" / "home" / "main.tf").read_text()
    assert before in text, fault
    place = clouds.prepare("azure", "home", text.replace(before, after, 1))
    done = place.run("validate", "-no-color")
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split()), done.stderr


def test_a_stand_in_catches_a_missing_block(clouds):
    text = (MODULES / "gcp_cloud_run" / "home" / "main.tf").read_text()
    place = clouds.prepare(
        "gcp_cloud_run", "home", re.sub(r"    rules {.*?    }\n", "", text, flags=re.S)
    )
    done = place.run("validate", "-no-color")
    assert 'At least 1 "rules" blocks are required' in " ".join(done.stderr.split())


def test_a_stand_in_is_started_by_terraform_as_any_provider_is(clouds):
    place = clouds.prepare("azure", "home")
    done = place.run("validate", "-no-color", attach=False)
    assert done.returncode == 0, done.stderr


def test_the_stand_ins_are_of_the_pinned_versions():
    for cloud, name in STANDINS.items():
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        for kind in KINDS:
            text = (MODULES / cloud / kind / "versions.tf").read_text()
            assert f'version = "{schema["version"]}"' in text
            assert f'source  = "{schema["source"].removeprefix("registry.terraform.io/")}"' in text
            used = set(
                re.findall(
                    r'^resource "(\w+)"', (MODULES / cloud / kind / "main.tf").read_text(), re.M
                )
            )
            assert used <= set(schema["resource_schemas"])
