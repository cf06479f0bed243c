"""What Terraform's runs cost: bare `terraform apply` beside ours through the provider broker.

Each apply makes one instance with the real AWS provider, against moto. Both ways are initialized
once, as anybody would. CPU is what the run and its helpers used; moto's own is counted for neither.
"""

import asyncio
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nightingale_hub.database import Database
from nightingale_hub.processes import (
    become_subreaper,
    list_descendants,
    list_processes,
    send_signal,
)
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.terraform.keeping import find_keeper
from nightingale_hub.terraform.launcher import find_terraform
from nightingale_hub.terraform.means import Means
from nightingale_hub.terraform.template import Template
from nightingale_hub.terraform.workspace import Workspace
from tests.aws import IMAGE, REGION, Aws, find_mirror, running_moto
from tests.bench.frame import Figure, Report

AT_ONCE, MOST_AT_ONCE = 8, 16
SINGLES = 2
SAMPLE_PAUSE_S = 0.25
REAPED_WITHIN_S = 5.0
MODULE = """
terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = "5.100.0"
    }}
  }}
{backend}}}

provider "aws" {{
  region      = "{region}"
  max_retries = 2
}}

variable "number" {{
  type = number
}}

resource "aws_instance" "instance" {{
  ami           = "{image}"
  instance_type = "t3.micro"
  tags          = {{ Name = "bench-${{var.number}}" }}
  root_block_device {{
    volume_size = 8
  }}
}}
"""


@dataclass(frozen=True)
class Cost:
    """What some runs at once took: all of them in wall seconds and MiB, each in CPU seconds."""

    wall_s: float
    cpu_s: float
    peak_mib: float


class Bench:
    """A folder with both ways to apply."""

    def __init__(self, folder: Path, aws: Aws) -> None:
        """Write both modules; nothing runs yet."""
        self.folder = folder
        self.aws = aws
        self.settings = NightingaleHub.from_dict(
            {
                "state_dir": str(folder / "state"),
                "db_url": f"sqlite:///{folder / 'bench.sqlite'}",
                "terraform_mirror": find_mirror() or "",
            }
        )
        self.settings.ensure_state()
        self.database = Database(self.settings.db_url)
        self.database.upgrade()
        self.bare = self._template("bare", "")
        self.ours = self._template("ours", '  backend "http" {}\n')
        self._number = 0

    def _template(self, name: str, backend: str) -> Template:
        module = self.folder / "modules" / name / "instance"
        module.mkdir(parents=True)
        text = MODULE.format(backend=backend, region=REGION, image=IMAGE)
        (module / "main.tf").write_text(text)
        template = Template(self.folder / "templates", module, self.settings.terraform_mirror)
        asyncio.run(template.ensure())
        return template

    def apply_bare(self, count: int) -> Cost:
        """Run *count* bare applies at once; raises `AssertionError` when one fails."""
        folders = []
        for _ in range(count):
            self._number += 1
            folder = self.folder / f"bare-{self._number}"
            folder.mkdir()
            (folder / "main.tf").write_text((self.bare.module / "main.tf").read_text())
            self.bare.link_into(folder)
            folders.append((folder, self._number))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **self.aws.environment,
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": str(self.bare.cli_config),
        }

        def work() -> None:
            command = [*find_terraform(os.environ["PATH"]), "apply", "-auto-approve"]
            runs = [
                subprocess.Popen(
                    [*command, "-input=false", "-no-color", f"-var=number={number}"],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=(folder / "output").open("wb"),
                    stderr=subprocess.STDOUT,
                )
                for folder, number in folders
            ]
            failed = [run.args for run in runs if run.wait() != 0]
            assert not failed, (folders[0][0] / "output").read_text()[-600:]

        return self._measure(work, count)

    def apply_ours(self, count: int) -> Cost:
        """Run *count* applies at once through the broker; raises when one fails."""
        first = self._number + 1
        self._number += count

        async def one(number: int) -> None:
            means = Means(
                self.settings, self.database, self.ours, f"instance/{number}", self.aws.environment
            )
            workspace = Workspace(self.folder / f"ours-{number}", self.ours.module, means)
            workspace.ensure({"number": number})
            (await (await workspace.start("apply")).wait()).raise_for_failure()

        async def all_of_them() -> None:
            await asyncio.gather(*(one(number) for number in range(first, first + count)))

        return self._measure(lambda: asyncio.run(all_of_them()), count)

    def _measure(self, work: Callable[[], None], count: int) -> Cost:
        helpers_s, own_s, children_s = self._helpers_cpu_s(), _own_cpu_s(), _children_cpu_s()
        with self._watching() as peak:
            began_s = time.monotonic()
            work()
            wall_s = time.monotonic() - began_s
        keeper = find_keeper(self.settings)
        _reap_orphans({self.aws.pid, *({keeper.identity.pid} if keeper else ())})
        # Ours waits and talks in this process; a bare apply's shell does next to nothing here.
        used_s = _children_cpu_s() - children_s + _own_cpu_s() - own_s - peak.own_s
        used_s += self._helpers_cpu_s() - helpers_s
        return Cost(wall_s, used_s / count, peak.mib)

    @contextmanager
    def _watching(self) -> "Iterator[Peak]":
        peak = Peak(self.settings, {self.aws.pid})
        thread = threading.Thread(target=peak.run)
        thread.start()
        try:
            yield peak
        finally:
            peak.ends.set()
            thread.join()

    def _helpers_cpu_s(self) -> float:
        keeper = find_keeper(self.settings)
        if keeper is None:
            return 0.0
        pids = [keeper.identity.pid, *(each.pid for each in list_descendants(keeper.identity.pid))]
        return sum(map(_cpu_s, pids))

    def close(self) -> None:
        """End keeper and database."""
        keeper = find_keeper(self.settings)
        if keeper is not None:
            send_signal(keeper.identity, signal.SIGTERM)
        self.database.dispose()


class Peak:
    """The most memory that runs and their helpers had at once (PSS), seen by looking often."""

    def __init__(self, settings: NightingaleHub, but: set[int]) -> None:
        """Look at all below this process and the keeper, but for what *but* names."""
        self.ends = threading.Event()
        self.mib = 0.0
        self.own_s = 0.0  # CPU that looking took
        self._settings = settings
        self._but = but

    def run(self) -> None:
        """Look until `ends`."""
        while not self.ends.wait(SAMPLE_PAUSE_S):
            pids = {each.pid for each in list_descendants(os.getpid())}
            keeper = find_keeper(self._settings)
            if keeper is not None:
                below = list_descendants(keeper.identity.pid)
                pids |= {keeper.identity.pid, *(each.pid for each in below)}
            self.mib = max(self.mib, sum(map(_pss_mib, pids - self._but)))
            self.own_s = time.thread_time()


def measure_terraform(report: Report, quick: bool) -> None:
    """Add the figures of Terraform to *report*."""
    if find_mirror() is None:
        report.notes.append("no mirror of Terraform providers: its runs were not measured")
        return
    become_subreaper()  # a provider outlives the Terraform that started it by a moment
    with running_moto() as aws, tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), aws)
        try:
            _compare(report, bench, 1 if quick else SINGLES, 2 if quick else AT_ONCE, quick)
        except AssertionError as error:
            report.errors.append(str(error))
        finally:
            bench.close()


def _compare(report: Report, bench: Bench, singles: int, at_once: int, quick: bool) -> None:
    bench.apply_ours(1)  # warm: the provider runs, as it does for every launch but the first
    ours = [bench.apply_ours(1) for _ in range(singles)]
    bare = [bench.apply_bare(1) for _ in range(singles)]
    cpu = [one.cpu_s / other.cpu_s for one, other in zip(ours, bare, strict=True)]
    many, many_bare = bench.apply_ours(at_once), bench.apply_bare(at_once)
    report.figures += [
        Figure("CPU of a warm apply over bare", "ratio", cpu, at_most=1 / 6),
        Figure("CPU of a warm apply", "s", [one.cpu_s for one in ours]),
        Figure("CPU of a bare apply", "s", [one.cpu_s for one in bare]),
        Figure("warm apply", "s", [one.wall_s for one in ours]),
        Figure("bare apply", "s", [one.wall_s for one in bare]),
        Figure(
            f"{at_once} applies at once over bare",
            "ratio",
            [many.wall_s / many_bare.wall_s],
            at_most=None if quick else 1 / 5,
        ),
        Figure(f"{at_once} applies at once", "s", [many.wall_s]),
        Figure(f"{at_once} bare applies at once", "s", [many_bare.wall_s]),
        Figure(
            f"memory of {at_once} at once over bare",
            "ratio",
            [many.peak_mib / many_bare.peak_mib],
            at_most=None if quick else 3 / 4,
        ),
        Figure(f"memory of {at_once} at once", "MiB", [many.peak_mib]),
        Figure(f"memory of {at_once} bare at once", "MiB", [many_bare.peak_mib]),
    ]
    if not quick:
        most = bench.apply_ours(MOST_AT_ONCE)
        report.figures.append(Figure(f"{MOST_AT_ONCE} applies at once", "s", [most.wall_s]))


def _reap_orphans(but: set[int]) -> None:
    """Take in what Terraform left behind unwaited, so that its CPU is counted: its providers."""
    until_s = time.monotonic() + REAPED_WITHIN_S
    while time.monotonic() < until_s:
        left = [e for e in list_processes() if e.parent == os.getpid() and e.pid not in but]
        if not left:
            return
        for entry in left:
            with suppress(ChildProcessError):
                os.waitpid(entry.pid, os.WNOHANG)
        time.sleep(SAMPLE_PAUSE_S / 5)


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
