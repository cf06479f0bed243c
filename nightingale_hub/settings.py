"""The settings of a hub, `c.NightingaleHub.*`, as the hub and its services all see them."""

import json
import os
import re
import secrets
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from traitlets import default, validate
from traitlets.config import Config

from nightingale_hub.durable import create_text
from nightingale_hub.errors import ConfigError
from nightingale_hub.exports import parse_exports
from nightingale_hub.ports import parse_service_ports
from nightingale_hub.quotas import parse_quotas
from nightingale_hub.traits import HubTraits

ENVIRONMENT_NAME = "NIGHTINGALE_SETTINGS"
SLOT_NAME = "NIGHTINGALE_SLOT"  # of a further process of one service
_HUB_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SERVICES = ("supervisor", "metering", "billing", "audit", "console")


class NightingaleHub(HubTraits):
    """What an operator may set; every service gets the same values from `configure`."""

    hub_id = Unicode(
        "nightingale",
        help="Name of this hub, written on everything that it creates in a cloud: 1 to 63 of a-z, "
        "0-9 and -.",
    ).tag(config=True)

    state_dir = Unicode(
        "nightingale-state",
        help="Directory for keys, Terraform states, local instances and the audit log. "
        "Created if missing, so that other users may pass through it to their homes and see "
        "nothing else; losing it loses track of what runs.",
    ).tag(config=True)

    db_url = Unicode(
        help="SQLAlchemy URL of the database, sqlite or postgresql. PostgreSQL is for more "
        "than one machine. Default: a SQLite file in state_dir.",
    ).tag(config=True)

    public_url = Unicode(
        help="Base URL of the hub as instances reach it, through its proxy. "
        "Default: JupyterHub's bind_url and base_url.",
    ).tag(config=True)

    cloud = Unicode("local", help="Cloud on which instances run: local.").tag(config=True)
    region = Unicode("here", help="Region of that cloud.").tag(config=True)

    isolate_users = Bool(
        help="Local cloud: run each researcher's server as a system user of its own. "
        "Without it researchers share one user and can read each other's files. "
        "Default: true when the hub runs as root, else false.",
    ).tag(config=True)

    clouds = Dict(
        help="What each cloud but local needs, by its name. For aws: `zones` (list), `image` "
        "(ami-…), `hub_cidrs` (list: the only addresses that instances may reach), and optionally "
        "`cidr` (of the network) and `environment` (credentials and endpoints for provider and "
        "SDK; without it they find their own).",
    ).tag(config=True)

    terraform_mirror = Unicode(
        help="Folder of Terraform providers, for `filesystem_mirror`. Empty: from their registry.",
    ).tag(config=True)

    terraform_runs = Integer(
        8,
        min=1,
        help="How many Terraform runs a supervisor has at once; more wait in a queue that their "
        "users see. Larger: more starts at once; smaller: less memory. Default: 8.",
    ).tag(config=True)

    provider_broker = Bool(
        True,
        help="Whether Terraform runs share provider processes. Without it each starts its own, "
        "which takes hundreds of MB and seconds of CPU. Default: true.",
    ).tag(config=True)

    launch_attempts = Integer(
        2,
        min=1,
        help="How often a failed launch is tried. Larger: a passing fault of the cloud is "
        "survived; smaller: a researcher learns sooner. Default: 2.",
    ).tag(config=True)

    boot_timeout_s = Float(
        120.0,
        min=1,
        help="How long an instance may take from Terraform's end to an answering server. "
        "Larger: slow images boot; smaller: a dead one is removed sooner. Default: 120 s.",
    ).tag(config=True)

    stop_retry_s = Float(
        5.0,
        min=0.1,
        help="Pause before a failed stop is tried again, doubled up to 5 minutes. Larger: less "
        "load on a cloud in trouble; smaller: fewer seconds that nobody wanted. Default: 5 s.",
    ).tag(config=True)

    quotas = Dict(
        help="How many instances, and which sizes, a person may have at once: an object with "
        "`default`, `groups` by name and `users` by name, each with some of `instances` (a whole "
        "number) and `cpu`, `gpu`, `disk` (lists of sizes). A person's own entry holds alone, else "
        "the most generous of their groups', else the default. Default: no limit.",
    ).tag(config=True)

    spool_limit_mib = Integer(
        256,
        min=1,
        help="Audit records an instance may hold unsent before it refuses to open more files. "
        "Larger: longer hub outages are survived; smaller: less is lost with a disk. "
        "Default: 256 MiB.",
    ).tag(config=True)

    exports = Dict(
        key_trait=Unicode(),
        help="Where audit events and findings are handed on to, by a name of yours: "
        "{'siem': {'kind': 'syslog', 'host': …, 'port': …}}. Kinds and keys: docs/exports.md. "
        "Default: nowhere.",
    ).tag(config=True)

    audit_witnesses = List(
        Unicode(),
        help="Places that keep each signed checkpoint of the audit log: folders, or URLs that "
        "fsspec knows (s3://bucket/prefix). They must be out of the reach of this hub's admins; "
        "without one an old copy of the log, put back whole, is not found. Default: none.",
    ).tag(config=True)

    service_ports = Dict(
        value_trait=Integer(),
        key_trait=Unicode(),
        help="Loopback port per service. Default: a free one each time the hub starts.",
    ).tag(config=True)

    supervisors = Integer(
        1,
        min=1,
        max=16,
        help="How many supervisor processes the hub starts; more than one needs PostgreSQL. "
        "Larger: more instances are launched at a time, and another goes on at once when one dies; "
        "smaller: less memory. Default: 1.",
    ).tag(config=True)
    @default("db_url")
    def _default_db_url(self) -> str:
        return f"sqlite:///{self.state_path / 'nightingale.sqlite'}"

    @default("isolate_users")
    def _default_isolate_users(self) -> bool:
        return os.geteuid() == 0

    @validate("cloud")
    def _validate_cloud(self, proposal: Any) -> str:
        if proposal.value != "local":
            raise ConfigError(
                f"c.NightingaleHub.cloud is {proposal.value!r}; this version knows: local"
            )
        return str(proposal.value)

    @validate("db_url")
    def _validate_db_url(self, proposal: Any) -> str:
        try:
            url = make_url(proposal.value)
            backend = url.get_backend_name()
            # A database in memory would be another one for each service.
            is_fit = backend == "postgresql" or url.database not in (None, "", ":memory:")
        except ArgumentError:
            is_fit = False
        if not is_fit or backend not in ("sqlite", "postgresql"):
            # Without the URL itself, which may hold a password.
            raise ConfigError(
                "c.NightingaleHub.db_url must be sqlite:////a/path or "
                "postgresql://user:password@host/name"
            )
        return str(proposal.value)

    @validate("exports")
    def _validate_exports(self, proposal: Any) -> dict[str, Any]:
        parse_exports(proposal.value)
        return dict(proposal.value)

    @validate("hub_id")
    def _validate_hub_id(self, proposal: Any) -> str:
        if _HUB_ID.fullmatch(proposal.value) is None:
            raise ConfigError(
                f"c.NightingaleHub.hub_id is {proposal.value!r}; it must be 1 to 63 of a-z, 0-9 "
                "and -, and begin with a letter or a digit"
            )
        return str(proposal.value)

    @validate("webhook_networks")
    def _validate_webhook_networks(self, proposal: Any) -> list[str]:
        for each in proposal.value:
            try:
                ip_network(each)
            except ValueError as error:
                raise ConfigError(
                    f"c.NightingaleHub.webhook_networks names {each!r}: {error}"
                ) from error
        return list(proposal.value)

    @validate("public_url")
    def _validate_public_url(self, proposal: Any) -> str:
        if not proposal.value.startswith(("http://", "https://")):
            raise ConfigError(
                f"c.NightingaleHub.public_url is {proposal.value!r}; it must begin with http:// "
                "or https://"
            )
        return f"{proposal.value.rstrip('/')}/"

    @validate("quotas")
    def _validate_quotas(self, proposal: Any) -> dict[str, Any]:
        return parse_quotas(proposal.value)

    @validate("service_ports")
    def _validate_service_ports(self, proposal: Any) -> dict[str, int]:
        return parse_service_ports(proposal.value, SERVICES)

    @property
    def state_path(self) -> Path:
        """The state directory, absolute."""
        return Path(self.state_dir).absolute()

    def ensure_state(self) -> None:
        """Make the state directory with what is private in it.

        Others may pass through it to a home of theirs; they can list and read nothing.
        """
        for path in (self.state_path, self.state_path / "homes"):
            if not path.exists():
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o711)  # apart from mkdir, which heeds the umask
        for name in ("instances", "terraform"):
            (self.state_path / name).mkdir(mode=0o700, exist_ok=True)
        self.secret_key()

    def service_url(self, service: str) -> str:
        """Return the loopback URL of *service*, for the hub's own machine."""
        return f"http://127.0.0.1:{self.service_ports[service]}{self.service_prefix(service)}"

    def service_prefix(self, service: str) -> str:
        """Return the path of *service*, the same at its own port and through the proxy."""
        return f"{urlsplit(self.public_url).path.rstrip('/')}/services/{service}/"

    def secret_key(self) -> bytes:
        """Return the key that encrypts secrets at rest, made on first use in a 0600 file."""
        path = self.state_path / "secret.key"
        if not path.exists():
            path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            create_text(path, secrets.token_hex(32))  # two that start at once agree on the first
        return bytes.fromhex(path.read_text())

    def to_dict(self) -> dict[str, Any]:
        """Return every setting by name, defaults included, fit for JSON."""
        return {name: getattr(self, name) for name in sorted(self.trait_names(config=True))}

    def to_environment(self) -> dict[str, str]:
        """Return the environment that hands these settings to a service."""
        return {ENVIRONMENT_NAME: json.dumps(self.to_dict())}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "NightingaleHub":
        """Return the settings that `to_dict` gave."""
        return cls(config=Config({"NightingaleHub": values}))

    @classmethod
    def from_environment(cls) -> "NightingaleHub":
        """Return the settings that the hub handed to this service.

        Raises `ConfigError` when this process was not started by a configured hub.
        """
        text = os.environ.get(ENVIRONMENT_NAME)
        if text is None:
            raise ConfigError(
                f"{ENVIRONMENT_NAME} is not set: services are started by a hub whose "
                "jupyterhub_config.py calls nightingale_hub.configure(c)"
            )
        return cls.from_dict(json.loads(text))
