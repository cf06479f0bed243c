"""One call wires a hub: spawner, services, scopes; what is secret on disk stays so."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from traitlets.config import Config

from nightingale_hub.config import CULLER, configure
from nightingale_hub.database import Database
from nightingale_hub.errors import ConfigError
from nightingale_hub.secrets_at_rest import decrypt, encrypt
from nightingale_hub.settings import ENVIRONMENT_NAME, SERVICES, NightingaleHub

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = 65534


@pytest.fixture
def folder():
    """A folder that every user may pass through; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="nightingale-config-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def c(folder):
    config = Config()
    config.NightingaleHub.state_dir = str(folder / "state")
    return config


def run_as_nobody(code):
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
    )
    return done.stdout.strip() or done.stderr.strip()


def test_one_call_wires_spawner_and_services(c):
    settings = configure(c)
    assert c.JupyterHub.spawner_class == "terraform"
    assert c.JupyterHub.cleanup_servers is False
    *services, culler = c.JupyterHub.services.to_dict()["extend"]
    assert [each["name"] for each in services] == list(SERVICES)
    assert culler["command"] == [sys.executable, "-m", "nightingale_hub.culler"]
    for each in services:
        assert each["command"] == [sys.executable, "-m", f"nightingale_hub.services.{each['name']}"]
        assert each["url"] == settings.service_url(each["name"]).partition("/services")[0]
        assert "api_token" not in each
    assert len(set(settings.service_ports.values())) == len(SERVICES)


def test_without_a_timeout_there_is_no_culler(c):
    c.NightingaleHub.idle_timeout_s = 0
    c.JupyterHub.services = []
    configure(c)
    assert [each["name"] for each in c.JupyterHub.services] == list(SERVICES)


def test_a_role_that_the_operator_has_too_is_one_role_with_both_scopes(c):
    c.JupyterHub.load_roles = [
        {"name": "user", "scopes": ["self", "read:groups"]},
        {"name": "nightingale-admin", "groups": ["treasurers"]},
    ]
    configure(c)
    roles = c.JupyterHub.load_roles
    names = [each["name"] for each in roles]
    assert len(names) == len(set(names))
    user, admin = (next(each for each in roles if each["name"] == name) for name in names[:2])
    assert user["scopes"][:2] == ["self", "read:groups"]
    assert user["scopes"].count("self") == 1
    assert "access:services!service=console" in user["scopes"]
    assert admin["groups"] == ["treasurers"]
    assert "custom:nightingale:money:treasury" in admin["scopes"]


def test_what_the_operator_listed_stays(c):
    c.JupyterHub.services = [{"name": "culler"}]
    c.JupyterHub.load_roles = [{"name": "mine"}]
    c.JupyterHub.custom_scopes = {"custom:mine": {"description": "mine"}}
    c.Spawner.cmd = ["my-singleuser"]
    configure(c)
    assert [each["name"] for each in c.JupyterHub.services] == ["culler", *SERVICES, CULLER]
    assert c.JupyterHub.load_roles[0] == {"name": "mine"}
    assert "custom:mine" in c.JupyterHub.custom_scopes
    assert c.Spawner.cmd == ["my-singleuser"]


def test_a_server_gets_a_token_for_itself_and_no_more(c):
    configure(c)
    scopes = c.Spawner.server_token_scopes
    assert "inherit" not in scopes
    for scope in scopes:
        assert scope.endswith(("!user", "!server")) or scope == "access:services!service=console"


def test_each_service_gets_the_least_that_it_needs(c):
    c.JupyterHub.load_roles = []
    configure(c)
    roles = {role["name"]: role for role in c.JupyterHub.load_roles}
    granted = {role["services"][0]: role["scopes"] for role in roles.values() if "services" in role}
    seen = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    assert granted == {"supervisor": ["delete:servers"], CULLER: seen}
    assert not any("admin" in scope for role in roles.values() for scope in role["scopes"])


@pytest.mark.parametrize(
    ("bind_url", "base_url", "expected"),
    [
        (None, None, "http://127.0.0.1:8000/"),
        ("http://127.0.0.1:9999", None, "http://127.0.0.1:9999/"),
        ("https://hub.example.org/", "/a/b/", "https://hub.example.org/a/b/"),
        ("http://127.0.0.1:9999", "x", "http://127.0.0.1:9999/x/"),
        ("http://:9999", None, "http://127.0.0.1:9999/"),
        ("http://*:9999/lab/", None, "http://127.0.0.1:9999/lab/"),
        ("http://0.0.0.0:9999", "x", "http://127.0.0.1:9999/x/"),
    ],
)
def test_instances_are_told_the_proxy_s_address(c, bind_url, base_url, expected):
    if bind_url is not None:
        c.JupyterHub.bind_url = bind_url
    if base_url is not None:
        c.JupyterHub.base_url = base_url
    assert configure(c).public_url == expected


def test_a_service_has_one_path_at_its_port_and_through_the_proxy(c):
    c.JupyterHub.bind_url = "http://127.0.0.1:9999/lab"
    settings = configure(c)
    port = settings.service_ports["audit"]
    assert settings.service_prefix("audit") == "/lab/services/audit/"
    assert settings.service_url("audit") == f"http://127.0.0.1:{port}/lab/services/audit/"


def test_a_public_url_that_is_given_holds(c):
    c.NightingaleHub.public_url = "https://hub.example.org/"
    assert configure(c).public_url == "https://hub.example.org/"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("cloud", "mars", "cloud is 'mars'"),
        ("service_ports", {"supervisr": 1}, "supervisr"),
        ("public_url", "hub.example.org", "public_url"),
        ("service_ports", {"audit": 9000, "billing": 9000}, "port of its own"),
        ("service_ports", {"audit": 0}, "from 1 to 65535"),
        ("hub_id", "My Hub!", "hub_id"),
        ("db_url", "a file of mine", "db_url"),
        ("db_url", "mysql://root@localhost/hub", "db_url"),
        ("db_url", "sqlite:///:memory:", "db_url"),
        ("db_url", "sqlite://", "db_url"),
    ],
)
def test_a_wrong_setting_is_named(c, name, value, says):
    c.NightingaleHub[name] = value
    with pytest.raises(ConfigError, match=says):
        configure(c)


def test_a_refused_database_url_keeps_its_password(c):
    c.NightingaleHub.db_url = "mysql://root:s3cret@localhost/hub"
    with pytest.raises(ConfigError) as refused:
        configure(c)
    assert "s3cret" not in str(refused.value)


def test_certificates_of_the_hub_s_own_are_refused(c):
    c.JupyterHub.internal_ssl = True
    with pytest.raises(ConfigError, match="internal_ssl"):
        configure(c)


def test_a_service_sees_the_same_settings(c, monkeypatch):
    c.NightingaleHub.launch_attempts = 7
    settings = configure(c)
    monkeypatch.setenv(ENVIRONMENT_NAME, settings.to_environment()[ENVIRONMENT_NAME])
    assert NightingaleHub.from_environment().to_dict() == settings.to_dict()
    monkeypatch.delenv(ENVIRONMENT_NAME)
    with pytest.raises(ConfigError, match="configure"):
        NightingaleHub.from_environment()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_the_state_directory_is_private_but_leads_to_the_homes(c, umask):
    before = os.umask(umask)
    try:
        path = configure(c).state_path
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o711
    assert modes == {
        "homes": 0o711,
        "instances": 0o700,
        "terraform": 0o700,
        "secret.key": 0o600,
    }


def test_a_state_directory_that_is_there_keeps_its_mode_and_key(c, folder):
    (folder / "state").mkdir(mode=0o700)
    first = configure(c).secret_key()
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700
    c.JupyterHub.services = []
    assert configure(c).secret_key() == first


@needs_root
@pytest.mark.parametrize("target", ["", "homes", "instances", "terraform"])
def test_another_user_lists_nothing(c, target):
    path = configure(c).state_path / target
    assert "PermissionError" in run_as_nobody(f"import os; os.listdir({str(path)!r})")


@needs_root
@pytest.mark.parametrize("target", ["secret.key", "nightingale.sqlite", "instances/i-1/boot.json"])
def test_another_user_reads_no_secret(c, target):
    settings = configure(c)
    database = Database(settings.db_url)
    database.upgrade()
    database.dispose()
    state = settings.state_path
    (state / "instances" / "i-1").mkdir()
    (state / "instances" / "i-1" / "boot.json").write_text("{}")
    assert "PermissionError" in run_as_nobody(f"open({str(state / target)!r})")


@needs_root
def test_another_user_reaches_a_home_of_theirs(c):
    home = configure(c).state_path / "homes" / "0123456789abcdef"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    code = f"import os; open(os.path.join({str(home)!r}, 'x'), 'w'); print('written')"
    assert run_as_nobody(code) == "written"


def test_a_secret_at_rest_opens_with_its_own_key_only():
    secret = {"env": {"JUPYTERHUB_API_TOKEN": "very secret"}}
    token = encrypt(b"k" * 32, secret)
    assert b"very secret" not in token
    assert decrypt(b"k" * 32, token) == secret
    with pytest.raises(ConfigError, match="another key"):
        decrypt(b"x" * 32, token)
    with pytest.raises(ConfigError):
        decrypt(b"k" * 32, token[:-4] + b"AAA=")
