"""A module made ready once for every workspace of it: `terraform init` is for a template.

Its directory is named for what went into it, so a changed module or mirror is another template.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nightingale_hub.durable import save_text
from nightingale_hub.errors import TerraformFailed
from nightingale_hub.terraform.launcher import find_terraform

INIT_WITHIN_S = 600.0
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY")


@dataclass(frozen=True)
class ProviderBinary:
    """A provider that `init` installed."""

    source: str  # registry.terraform.io/hashicorp/aws
    version: str
    path: Path


class Template:
    """One module, initialized; workspaces link to what it holds."""

    def __init__(self, templates: Path, module: Path, mirror: str = "") -> None:
        """Take *module* for a directory in *templates*; *mirror* is a folder of providers or empty.

        Does nothing yet.
        """
        self.module = module
        self.mirror = mirror
        digest = hashlib.sha256(mirror.encode())
        for source in sorted(module.glob("*.tf")):
            digest.update(source.name.encode() + source.read_bytes())
        self.fingerprint = digest.hexdigest()[:16]
        name = f"{module.parent.name}-{module.name}-{self.fingerprint}"
        self.directory = templates / name

    @property
    def cli_config(self) -> Path:
        """Terraform's configuration file, which says where providers come from."""
        return self.directory / "terraform.rc"

    async def ensure(self) -> None:
        """Initialize it unless that was done; raises `TerraformFailed` with Terraform's words."""
        if not self.directory.exists():
            await asyncio.to_thread(self._init)

    def list_providers(self) -> list[ProviderBinary]:
        """Return the providers of the module as they are on this machine."""
        root = self.directory / ".terraform" / "providers"
        found = []
        for path in sorted(root.glob("*/*/*/*/*/terraform-provider-*")):
            host, namespace, name, version = path.relative_to(root).parts[:4]
            found.append(ProviderBinary(f"{host}/{namespace}/{name}", version, path.resolve()))
        return found

    def link_into(self, workspace: Path) -> None:
        """Let *workspace* use what was initialized here."""
        for name in (".terraform", ".terraform.lock.hcl"):
            link = workspace / name
            if not link.is_symlink() or os.readlink(link) != str(self.directory / name):
                link.unlink(missing_ok=True)
                link.symlink_to(self.directory / name)

    def _init(self) -> None:
        templates = self.directory.parent
        templates.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=templates))
        try:
            for source in self.module.glob("*.tf"):
                shutil.copy(source, draft)
            save_text(draft / "terraform.rc", _format_cli_config(self.mirror))
            _run_init(draft, self.module)
            try:
                os.rename(draft, self.directory)
            except OSError:
                if not self.directory.exists():  # else another was faster with the same
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _run_init(draft: Path, module: Path) -> None:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with _backend_without_states() as url:
        done = subprocess.run(
            [*find_terraform(os.environ.get("PATH")), "init", "-input=false", "-no-color"],
            cwd=draft,
            env={
                **environment,
                "CHECKPOINT_DISABLE": "1",
                "TF_IN_AUTOMATION": "1",
                "TF_CLI_CONFIG_FILE": str(draft / "terraform.rc"),
                "TF_HTTP_ADDRESS": url,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INIT_WITHIN_S,
            check=False,
        )
    if done.returncode != 0:
        said = " ".join(done.stdout.split())[-600:]
        raise TerraformFailed(f"terraform init of {module} failed: {said}")


@contextlib.contextmanager
def _backend_without_states() -> Iterator[str]:
    """Yield the address of a state backend that is empty: `init` asks, and a template has none."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/state"
        finally:
            server.shutdown()
            thread.join()


def _format_cli_config(mirror: str) -> str:
    if not mirror:
        return "# Providers come from their registry.\n"
    path = mirror.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${")
    return f'provider_installation {{\n  filesystem_mirror {{\n    path = "{path}"\n  }}\n}}\n'
