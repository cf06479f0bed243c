"""A person's way to a hub under test: the pages with a session, the API with a token."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx

WAIT_S = 60.0
SMALL = {"cpu": "S", "gpu": "none", "disk": "S"}


def wait_for(look: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Return what *look* returns once that is true; fail with *what* after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.05)
    return seen


class Client:
    """One person, logged in."""

    def __init__(self, url: str, name: str, password: str) -> None:
        self.name = name
        self.http = httpx.Client(base_url=url, follow_redirects=True, timeout=60, trust_env=False)
        self._password = password
        self._token = ""

    def close(self) -> None:
        self.http.close()

    @property
    def xsrf(self) -> str:
        """The token that a form or a script of the hub's pages sends."""
        found = [c.value for c in self.http.cookies.jar if c.name == "_xsrf" and "/hub" in c.path]
        return found[0] or ""

    def log_in(self) -> None:
        """Log in through the page."""
        self.http.get("hub/login")
        form = {"username": self.name, "password": self._password, "_xsrf": self.xsrf}
        page = self.http.post("hub/login", data=form)
        assert "/hub/login" not in str(page.url), page.status_code
        # The login made a new session, and with it a new token.
        self.http.get("hub/token")

    @property
    def token(self) -> str:
        """An API token of this person, made on first use."""
        if not self._token:
            made = self.http.post(
                f"hub/api/users/{self.name}/tokens",
                json={"note": "test"},
                headers={"X-XSRFToken": self.xsrf, "Referer": str(self.http.base_url) + "hub/"},
            )
            assert made.status_code == 201, made.text
            self._token = made.json()["token"]
        return self._token

    def api(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Ask the hub's API with the token, as a program does: without cookies."""
        return httpx.request(
            method,
            f"{self.http.base_url}hub/api/{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
            trust_env=False,
            **content,
        )

    def get_form(self, server: str = "") -> httpx.Response:
        """Return the spawn page."""
        return self.http.get(self._spawn_path(server))

    def submit_form(self, fields: dict[str, Any], server: str = "") -> httpx.Response:
        """Press Start with *fields*, and return the answer without following it."""
        return self.http.post(
            self._spawn_path(server),
            params={"_xsrf": self.xsrf},
            data=fields,
            follow_redirects=False,
        )

    def start(self, options: dict[str, Any] | None = None, server: str = "") -> httpx.Response:
        """Start a server through the API; it may still be starting afterwards."""
        body = {"json": {"user_options": options}} if options is not None else {}
        return self.api("POST", self._server_path(server), **body)

    def stop(self, server: str = "") -> httpx.Response:
        """Stop a server through the API; it may still be stopping afterwards."""
        return self.api("DELETE", self._server_path(server))

    def find_server(self, server: str = "") -> dict[str, Any] | None:
        """Return the hub's model of a server that is started or pending, or None."""
        user = self.api("GET", f"users/{self.name}").json()
        found: dict[str, Any] | None = user["servers"].get(server)
        return found

    def wait_ready(self, server: str = "") -> dict[str, Any]:
        """Wait until the hub leads people to the server."""

        def look() -> dict[str, Any] | None:
            model = self.find_server(server)
            return model if model is not None and model["ready"] else None

        found: dict[str, Any] = wait_for(look, f"{self.name}'s server {server!r} is ready")
        return found

    def wait_stopped(self, server: str = "") -> None:
        """Wait until the hub has let go of the server."""
        wait_for(lambda: self.find_server(server) is None, f"{self.name}'s server is stopped")

    def list_progress(self, server: str = "") -> list[dict[str, Any]]:
        """Return the progress events of a start, to its end."""
        events = []
        url = f"{self.http.base_url}hub/api/{self._server_path(server)}/progress"
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.stream("GET", url, headers=headers, timeout=120, trust_env=False) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line.removeprefix("data:")))
        return events

    def ask_server(self, path: str, server: str = "") -> httpx.Response:
        """Ask the server itself, through the hub's proxy."""
        prefix = f"user/{self.name}/{server}/" if server else f"user/{self.name}/"
        return httpx.get(
            f"{self.http.base_url}{prefix}{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
            trust_env=False,
        )

    def _server_path(self, server: str) -> str:
        return f"users/{self.name}/servers/{server}" if server else f"users/{self.name}/server"

    def _spawn_path(self, server: str) -> str:
        return f"hub/spawn/{self.name}/{server}" if server else f"hub/spawn/{self.name}"


def read_alert(page: httpx.Response) -> str:
    """Return what a page of the hub says went wrong."""
    found = re.search(r"spawn-error-msg[^>]*>(.*?)</p>", page.text, re.DOTALL)
    return found[1].strip() if found else ""
