"""The demo's hub: a stock jupyterhub_config.py with one call more."""

import json
import os
from pathlib import Path

import nightingale_hub

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub defines it

# Made by bin/demo: free ports and passwords. On a server of your own, write plain values here.
state = Path(os.environ["NIGHTINGALE_DEMO_STATE"])
demo = json.loads((state / "demo.json").read_text())

c.JupyterHub.bind_url = demo["url"]
c.JupyterHub.hub_port = demo["hub_port"]
c.JupyterHub.db_url = demo["hub_db_url"]
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{demo['proxy_port']}"
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")

# Who may log in. The demo shares two passwords; a real hub uses an authenticator of oauthenticator.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = demo["user_password"]
c.SharedPasswordAuthenticator.admin_password = demo["admin_password"]
c.Authenticator.allowed_users = set(demo["users"])
c.Authenticator.admin_users = {demo["admin"]}

# Nightingale Hub: its own settings, then the call that wires spawner, services and roles.
c.NightingaleHub.state_dir = str(state)
c.NightingaleHub.db_url = demo["db_url"]
nightingale_hub.configure(c)
