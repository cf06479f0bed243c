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

from nightingale_hub.audit_settings import AuditSettings
from nightingale_hub.clouds import KNOWN, parse_clouds
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


class NightingaleHub(HubTraits, AuditSettings):
    """What an operator may set; every service gets the same values from `configure`."""

    @default("db_url")
    def _default_db_url(self) -> str:
        return f"sqlite:///{self.state_path / 'nightingale.sqlite'}"

    @default("isolate_users")
    def _default_isolate_users(self) -> bool:
        return os.geteuid() == 0

    @validate("cloud")
    def _validate_cloud(self, proposal: Any) -> str:
        if proposal.value not in ("local", *KNOWN):
            raise ConfigError(
                f"c.NightingaleHub.cloud is {proposal.value!r}; this version knows: "
                f"{', '.join(('local', *KNOWN))}"
            )
        return str(proposal.value)

    @validate("clouds")
    def _validate_clouds(self, proposal: Any) -> dict[str, Any]:
        return parse_clouds(proposal.value)

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
