"""Wires Nightingale Hub into a stock `jupyterhub_config.py`: one call, `configure(c)`.

Parts are named here, never imported: the spawner by its entry point, a service by `python -m`.
"""

import sys
from pathlib import Path
from typing import Any

from traitlets.config import Config

from nightingale_hub.errors import ConfigError
from nightingale_hub.ports import find_free_ports
from nightingale_hub.proxy import find_proxy_command
from nightingale_hub.settings import SERVICES, SLOT_NAME, NightingaleHub

SCOPES = {
    "custom:nightingale:instance:read": {"description": "See an instance, its cost and its reads"},
    "custom:nightingale:instance:stop": {"description": "Stop an instance"},
    "custom:nightingale:instance:change": {"description": "Resize an instance, or keep it longer"},
    "custom:nightingale:money:set": {"description": "Set budgets of customers that one manages"},
    "custom:nightingale:money:treasury": {"description": "Grant, price and invoice"},
    "custom:nightingale:fleet:manage": {
        "description": "Release people, remove homes, grant datasets, see orphans"
    },
}
# Beside a culler that an operator may have already.
CULLER = "nightingale-culler"
# What each service may ask of the hub beyond identifying its callers.
SERVICE_SCOPES = {
    "supervisor": ["delete:servers"],
    CULLER: ["list:users", "read:users:activity", "read:servers", "delete:servers"],
}
CONSOLE = "access:services!service=console"


def configure(c: Any) -> NightingaleHub:
    """Wire spawner, services, scopes and roles into config *c*; return the settings in force.

    Reads `c.NightingaleHub`, `c.JupyterHub.bind_url` and `c.JupyterHub.base_url`, so set those
    first. Creates the state directory. What *c* already lists (services, roles) stays.
    Raises `ConfigError` for a wrong setting.
    """
    settings = NightingaleHub(config=Config({"NightingaleHub": c.NightingaleHub}))
    settings.state_dir = str(settings.state_path)
    if not settings.public_url:
        settings.public_url = _public_url(c)
    missing = [name for name in SERVICES if name not in settings.service_ports]
    settings.service_ports = {
        **settings.service_ports,
        **dict(zip(missing, find_free_ports(len(missing)), strict=True)),
    }
    settings.ensure_state()

    hub = c.JupyterHub
    if _given(hub, "internal_ssl", False):
        raise ConfigError(
            "c.JupyterHub.internal_ssl is set; instances have no certificates of the hub's yet"
        )
    hub.spawner_class = "terraform"
    c.TerraformSpawner.hub_settings = settings.to_dict()
    # Instances are the supervisor's: a hub that stops leaves them running.
    hub.cleanup_servers = False
    # A server that was starting waits for the supervisor, which the hub starts after this check.
    hub.init_spawners_timeout = _given(hub, "init_spawners_timeout", 1)
    hub.custom_scopes = {**_given(hub, "custom_scopes", {}), **SCOPES}
    services = _list_services(settings)
    _extend(hub, "services", services)
    roles = _merge_roles(hub, _roles({each["name"] for each in services}))
    _extend(hub, "load_roles", roles)
    proxy = find_proxy_command()
    if proxy is not None and "command" not in c.ConfigurableHTTPProxy:
        c.ConfigurableHTTPProxy.command = proxy
    if settings.cloud == "local" and "cmd" not in c.Spawner:
        c.Spawner.cmd = [str(Path(sys.prefix, "bin", "jupyterhub-singleuser"))]
    c.Spawner.server_token_scopes = [
        "users:activity!user",
        "access:servers!server",
        CONSOLE,
        "custom:nightingale:instance:read!server",
        "custom:nightingale:instance:stop!server",
        "custom:nightingale:instance:change!server",
    ]
    return settings


def _list_services(settings: NightingaleHub) -> list[dict[str, Any]]:
    if settings.supervisors > 1 and settings.db_url.startswith("sqlite"):
        raise ConfigError(
            f"c.NightingaleHub.supervisors is {settings.supervisors}; more than one needs "
            "c.NightingaleHub.db_url to be a PostgreSQL database"
        )
    services = [_service(name, settings) for name in SERVICES]
    for number in range(2, settings.supervisors + 1):
        further = _service("supervisor", settings)
        del further["url"]  # the first one answers for all
        further["name"] = f"supervisor-{number}"
        further["environment"] = {**further["environment"], SLOT_NAME: str(number)}
        services.append(further)
    if settings.idle_timeout_s:
        services.append(
            {
                "name": CULLER,
                "command": [sys.executable, "-m", "nightingale_hub.culler"],
                "environment": settings.to_environment(),
                "display": False,
            }
        )
    return services


def _service(name: str, settings: NightingaleHub) -> dict[str, Any]:
    service: dict[str, Any] = {
        "name": name,
        "url": f"http://127.0.0.1:{settings.service_ports[name]}",
        "command": [sys.executable, "-m", f"nightingale_hub.services.{name}"],
        "environment": settings.to_environment(),
        "display": name == "console",
    }
    if name == "console":
        service["oauth_no_confirm"] = True
        service["oauth_client_allowed_scopes"] = sorted(SCOPES)
    return service


def _roles(services: set[str]) -> list[dict[str, Any]]:
    roles: list[dict[str, Any]] = [
        {
            "name": "user",
            "scopes": [
                "self",
                CONSOLE,
                "custom:nightingale:instance:read!user",
                "custom:nightingale:instance:stop!user",
                "custom:nightingale:money:set!user",
                "custom:nightingale:instance:change!user",
            ],
        },
        {"name": "nightingale-admin", "scopes": [CONSOLE, *sorted(SCOPES)]},
    ]
    for name, scopes in SERVICE_SCOPES.items():
        if name not in services:
            continue
        role = f"nightingale-{name.removeprefix('nightingale-')}"
        roles.append({"name": role, "services": [name], "scopes": list(scopes)})
    return roles


def _merge_roles(hub: Any, roles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give what the operator's own roles of the same names need; return the others.

    JupyterHub starts with no role named twice.
    """
    listed = hub.get("load_roles")
    own = {each["name"]: each for each in listed} if isinstance(listed, list) else {}
    for role in roles:
        if role["name"] in own:
            known = own[role["name"]]
            given = known.get("scopes", ())
            more = [scope for scope in role["scopes"] if scope not in given]
            known["scopes"] = [*given, *more]
    return [role for role in roles if role["name"] not in own]


def _public_url(c: Any) -> str:
    bind = _given(c.JupyterHub, "bind_url", "http://127.0.0.1:8000").rstrip("/")
    for anywhere in ("http://:", "http://*:", "http://0.0.0.0:"):
        # No address to ask: JupyterHub's own way to say that the proxy listens on all of them.
        if bind.startswith(anywhere):
            bind = f"http://127.0.0.1:{bind.removeprefix(anywhere)}"
    base = _given(c.JupyterHub, "base_url", "/")
    return f"{bind}/{base.strip('/')}/" if base.strip("/") else f"{bind}/"


def _given(section: Any, name: str, fallback: Any) -> Any:
    return section[name] if name in section else fallback


def _extend(section: Any, name: str, values: list[Any]) -> None:
    # An operator may have assigned a list, appended to a lazy one, or done nothing.
    if isinstance(section.get(name), list):
        section[name] = [*section[name], *values]
    else:
        getattr(section, name).extend(values)
