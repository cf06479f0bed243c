"""A page for a browser that the hub logged in: its guards, its reader, its errors.

Only this origin's own script and style may run. What a person wrote is escaped by the template
and made visible by `text.visible`.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from nightingale_hub.errors import NightingaleError, NotAllowed, NotFound
from nightingale_hub.service import Context
from nightingale_hub.services.console.caller import Caller
from nightingale_hub.services.console.parts import Parts

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class FreshHubOAuth(HubOAuth):  # type: ignore[misc]  # jupyterhub ships no types
    """Asks the hub about every request: these pages show money, so an ended login ends here.

    HubAuth takes a cache_max_age of 0 as "for ever", so its cache cannot be switched off.
    """

    def user_for_token(
        self, token: str, use_cache: bool = False, session_id: str = "", *, sync: bool = True
    ) -> Any:
        """Return the hub's model of the owner of *token*, never a cached one."""
        return super().user_for_token(token, use_cache=False, session_id=session_id, sync=sync)


class Guarded(RequestHandler):
    """What a browser gets: our own files only, in no frame, with no guess at a type."""

    def set_default_headers(self) -> None:
        """Set the guards on every answer, errors included."""
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show what happened and what to do next, never a trace."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, NightingaleError):
            self.set_status(error.status)
            message = str(error)
        elif not isinstance(error, HTTPError):
            message = "This is an error on our side; it is logged."
        elif status_code >= 500:
            message = "The hub does not answer; try again in a moment."
        elif status_code == 403:
            message = "You may not do this, or the form is old: load the page again, then retry."
        else:
            message = "The console cannot answer this request."
        self.show("error.html", status=self.get_status(), message=message)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log only what is our fault: an error that was shown needs no trace."""
        if not isinstance(value, NightingaleError):
            super().log_exception(typ, value, tb)

    def show(self, template: str, **values: Any) -> None:
        """End the request with *template* filled with *values*."""
        environment: Environment = self.settings["templates"]
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(environment.get_template(template).render(self.frame(), **values))

    def frame(self) -> dict[str, Any]:
        """Return what the frame around every page shows: nothing about anybody."""
        return {"reader": None, "xsrf_token": ""}


class Static(Guarded, StaticFileHandler):
    """Our style and script."""

    def set_extra_headers(self, path: str) -> None:
        """Let a browser keep a file; its address changes with its content."""
        self.set_header("Cache-Control", "private, max-age=86400")


class Callback(HubOAuthCallbackHandler, Guarded):  # type: ignore[misc]  # jupyterhub: no types
    """The end of a login at the hub."""

    def initialize(self) -> None:
        """Use the one HubOAuth of this service."""
        self.hub_auth = self.settings["hub_oauth"]


class Page(HubOAuthenticated, Guarded):  # type: ignore[misc]  # jupyterhub ships no types
    """A page that only a logged-in person gets; *reader* is who."""

    sends_to_login = True
    reader: Caller | None = None

    def initialize(self) -> None:
        """Use the one HubOAuth of this service."""
        self.hub_auth = self.settings["hub_oauth"]

    async def prepare(self) -> None:
        """Let the hub say who this is; send a stranger to its login page."""
        if "Authorization" in self.request.headers:
            raise NotAllowed("Pages are for browsers; a program asks the console's API.")
        # Asked here, off the loop; what HubAuthenticated then asks in its own way is known.
        await self.hub_auth.get_user(self, sync=False)
        model = self.current_user
        if model is not None:
            self.reader = Caller.from_model(model)
        elif self.request.method == "GET" and self.sends_to_login:
            self.redirect(self.get_login_url())
        else:
            raise NotAllowed("Your login has ended; load the page again.")

    @property
    def context(self) -> Context:
        """The service's settings and database."""
        context: Context = self.settings["context"]
        return context

    @property
    def parts(self) -> Parts:
        """The other services."""
        parts: Parts = self.settings["parts"]
        return parts

    @property
    def person(self) -> Caller:
        """Who reads this page."""
        assert self.reader is not None, "prepare lets nobody else pass"
        return self.reader

    def frame(self) -> dict[str, Any]:
        """Return who reads, and what a form of theirs must carry."""
        if self.reader is None:
            return super().frame()
        return {"reader": self.reader, "xsrf_token": self.xsrf_token.decode()}


class AdminPage(Page):
    """A page that does not exist but for the hub's admins."""

    async def prepare(self) -> None:
        """Let only an admin pass; raises `NotFound` for everyone else."""
        await super().prepare()
        if self.reader is not None and not self.reader.is_admin:
            raise NotFound("There is no such page.")


class NoSuchPage(Page):
    """Every other address."""

    def get(self) -> None:
        """Refuse; raises `NotFound`."""
        raise NotFound("There is no such page.")


def server_path(base_url: str, owner: str, server_name: str) -> str:
    """Return the path of a server's JupyterLab under the hub's *base_url*."""
    name = f"{quote(server_name, safe='')}/" if server_name else ""
    return f"{base_url}user/{quote(owner, safe='@~')}/{name}lab"
