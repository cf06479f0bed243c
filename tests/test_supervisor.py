"""Each instance gets where it is wanted, whoever dies on the way, and is gone only when it is."""

import json
import secrets
import signal

import httpx
import pytest

from nightingale_hub import instances
from nightingale_hub.agreements import accept
from nightingale_hub.auth import sha256_hex
from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.datasets import Dataset, ensure_dataset, grant
from nightingale_hub.errors import BadInput
from nightingale_hub.lease import StaleLease
from nightingale_hub.processes import parse_identity, send_signal
from nightingale_hub.services.supervisor.bootstrap import parse_call
from nightingale_hub.services.supervisor.service import make
from nightingale_hub.services.supervisor.supervisor import Supervisor
from nightingale_hub.system_users import name_system_user
from nightingale_hub.tables.instances import instance, terraform_run
from nightingale_hub.terraform.workspace import Workspace
from tests.fleet import (
    SERVER_OF_A_STRANGER,
    SERVER_THAT_NEVER_ANSWERS,
    TerraformThatFailsToApply,
    TerraformThatFailsToDestroy,
    TerraformThatIsSlow,
    running_fleet,
    supervising,
)
from tests.serving import make_context, serving

EDGES_OF_A_GOOD_LIFE = [
    "requested_to_launching",
    "launching_to_booting",
    "booting_to_running",
    "running_to_stopping",
    "stopping_to_stopped",
]

# Two supervisors in one test process: the first one's run is still a child of it when the first
# is dropped.
survives = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
async def fleet(database, tmp_path):
    async with running_fleet(database, tmp_path / "state") as fleet:
        yield fleet


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Puts a double before the real Terraform on PATH."""

    def use(kind):
        double = kind(tmp_path / "bin")
        monkeypatch.setenv("PATH", f"{double.folder}:/usr/local/bin:/usr/bin:/bin")
        return double

    return use


def edges(fleet, key):
    return [line for line in fleet.list_lines(key) if line in instances.EDGES]


async def test_an_instance_is_made_answers_and_is_removed_whole(fleet):
    before_us = now_us()
    key = fleet.ask()
    async with supervising(fleet):
        row = await fleet.wait_state(key, "running")
        answer = httpx.get(f"http://{row.host}:{row.port}{row.base_url}api", trust_env=False)
        assert answer.headers["X-Nightingale-Instance"] == row.api_nonce
        assert fleet.list_processes(key)
        assert (row.nonce_sha256, row.launch_secret) == (None, None)
        assert fleet.stop(key)
        row = await fleet.wait_state(key, "stopped")
        left = [fleet.settings.state_path / name / key for name in ("terraform", "instances")]
        await fleet.wait(lambda: not any(folder.exists() for folder in left))
    times = [row.created_us, row.allocated_us, row.ready_us, row.stop_accepted_us, row.gone_us]
    assert times == sorted(times) and before_us <= times[0] and times[-1] <= now_us()
    assert edges(fleet, key) == EDGES_OF_A_GOOD_LIFE
    assert fleet.list_processes(key) == []
    assert [(run.action, run.exit_status) for run in fleet.list_runs(key)] == [
        ("apply", 0),
        ("destroy", 0),
    ]
    assert "terraform_data.guard: Creating..." in fleet.list_lines(key)
    assert (fleet.settings.state_path / "homes" / instances.owner_hash("alice")).is_dir()


async def test_every_resource_is_tagged_with_hub_user_instance_and_server(fleet):
    key = fleet.ask(server="gpu box")
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
        state = fleet.settings.state_path / "terraform" / key / "terraform.tfstate"
        resources = json.loads(state.read_text())["resources"]
    tags = [each["instances"][0]["attributes"]["input"]["value"]["tags"] for each in resources]
    wanted = {
        "nightingale:hub": fleet.settings.hub_id,
        "nightingale:instance": key,
        "nightingale:server": "gpu box",
        "nightingale:user": instances.owner_hash("alice"),
    }
    assert tags == [wanted] * 3


async def test_one_that_ended_by_itself_is_removed_and_charged_no_longer(fleet):
    dead, alive = fleet.ask(), fleet.ask(owner="bob")
    async with supervising(fleet):
        for key in (dead, alive):
            await fleet.wait_state(key, "running")
    for each in fleet.list_processes(dead):
        send_signal(each, signal.SIGKILL)
    await fleet.wait(lambda: fleet.list_processes(dead) == [])
    ended_us = now_us()
    async with supervising(fleet):
        row = await fleet.wait_state(dead, "stopped")
        assert row.reason == "it ended by itself"
        assert ended_us <= row.stop_accepted_us <= ended_us + 5 * US_PER_S
        assert fleet.get(alive).wanted == "running"


async def test_what_nobody_wants_any_more_is_never_made(fleet):
    key = fleet.ask()
    fleet.stop(key)
    async with supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert edges(fleet, key) == ["requested_to_stopped"]
    assert (row.allocated_us, row.launch_secret, fleet.list_runs(key)) == (None, None, [])
    assert row.gone_us is not None


async def test_a_launch_that_fails_is_tried_again_then_removed_with_the_reason(fleet, use):
    double = use(TerraformThatFailsToApply)
    key = fleet.ask()
    async with supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert double.list_actions() == ["apply", "apply", "destroy"]
    assert row.reason == "The launch failed: no capacity left"
    assert row.ready_us is None
    assert any("trying again in 1 s: no capacity left" in each for each in fleet.list_lines(key))
    assert [run.exit_status for run in fleet.list_runs(key)] == [1, 1, 0]


async def test_a_launch_that_fails_once_still_becomes_an_instance(fleet, use):
    double = use(TerraformThatFailsToApply)
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait(lambda: fleet.get(key).attempts == 1)
        double.repair()
        await fleet.wait_state(key, "running")
    assert double.list_actions() == ["apply", "apply"]


async def test_a_stop_that_fails_stays_stopping_is_shown_and_retried(fleet, use):
    fleet.settings.stop_retry_s = 0.2
    double = use(TerraformThatFailsToDestroy)
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
        fleet.stop(key)
        row = await fleet.wait(lambda: (row := fleet.get(key)).attempts >= 2 and row)
        assert (row.actual, row.gone_us) == ("stopping", None)
        assert fleet.list_processes(key)
        told = [each for each in fleet.list_lines(key) if each.startswith("Stop failed")]
        assert told[:2] == [
            "Stop failed, trying again in 0.2 s: the cloud is down",
            "Stop failed, trying again in 0.4 s: the cloud is down",
        ]
        double.repair()
        await fleet.wait_state(key, "stopped")
    assert fleet.list_processes(key) == []


async def test_the_pause_between_stops_has_a_bound(fleet, use):
    use(TerraformThatFailsToDestroy).repair()
    key = fleet.ask(actual="stopping", wanted="stopped", attempts=4000)
    (use_broken := fleet.settings.state_path.parent / "bin" / "broken").touch()
    # Something is there, so that Terraform has something to destroy.
    site = fleet.settings.state_path / "terraform" / key
    site.mkdir(mode=0o700)
    (site / "main.tf").write_text("")
    async with supervising(fleet):
        row = await fleet.wait(lambda: (row := fleet.get(key)).attempts == 4001 and row)
        assert 290 < (row.next_try_us - now_us()) / 1e6 <= 300
        use_broken.unlink()
        with fleet.database.write() as conn:
            conn.execute(instance.update().values(next_try_us=0))
        await fleet.wait_state(key, "stopped")


async def test_a_stop_interrupts_a_launch(fleet, use):
    double = use(TerraformThatIsSlow)
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait(lambda: double.list_actions() == ["apply"])
        fleet.stop(key)
        row = await fleet.wait_state(key, "stopped")
    assert row.ready_us is None
    assert double.list_actions() == ["apply", "destroy"]
    assert edges(fleet, key)[:2] == ["requested_to_launching", "launching_to_stopping"]


@survives
async def test_a_successor_picks_up_the_run_that_goes_on(fleet, use):
    double = use(TerraformThatIsSlow)
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait(lambda: double.list_actions() == ["apply"])
    assert fleet.get(key).actual == "launching"
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
    assert double.list_actions() == ["apply"]
    assert [run.exit_status for run in fleet.list_runs(key)] == [0]


@survives
async def test_a_successor_picks_up_a_destroy_too(fleet):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
        fleet.stop(key)
        await fleet.wait_state(key, "stopping")
        runs = fleet.settings.state_path / "terraform" / key / "runs"
        await fleet.wait(lambda: list(runs.glob("*-destroy/pid.json")))
    async with supervising(fleet):
        await fleet.wait_state(key, "stopped")
    assert len([run for run in fleet.list_runs(key) if run.action == "destroy"]) == 1


async def test_a_run_that_was_written_down_and_never_started_is_started(fleet):
    key = fleet.ask(actual="launching", allocated_us=now_us())
    with fleet.database.write() as conn:
        conn.execute(
            terraform_run.insert().values(
                instance_id=key, action="apply", directory="", started_us=now_us()
            )
        )
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
    assert [run.exit_status for run in fleet.list_runs(key)] == [0]


@survives
async def test_a_run_whose_launcher_was_killed_is_made_again(fleet, use):
    double = use(TerraformThatIsSlow)
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait(lambda: double.list_actions() == ["apply"])
        run = Workspace(fleet.settings.state_path / "terraform" / key, double.folder).find_run()
        assert run is not None
        launcher = parse_identity(json.loads((run.directory / "pid.json").read_text()))
        assert send_signal(launcher, signal.SIGKILL)
        await fleet.wait_state(key, "running", timeout_s=60)
    assert [run.exit_status for run in fleet.list_runs(key)] == [None, 0]


async def test_a_supervisor_that_was_replaced_writes_nothing(fleet):
    key = fleet.ask()
    old = Supervisor(make_context("supervisor", fleet.database, fleet.settings))
    make_context("supervisor", fleet.database, fleet.settings)
    with pytest.raises(StaleLease):
        await old.step()
    await old.settle()
    assert (fleet.get(key).actual, fleet.get(key).lease_holder) == ("requested", None)


async def test_a_server_that_never_answers_is_given_up(fleet):
    fleet.settings.boot_timeout_s = 1.5
    key = fleet.ask(program=SERVER_THAT_NEVER_ANSWERS)
    async with supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert row.reason == "The launch failed: its server did not answer in 1.5 s"
    assert row.ready_us is None
    assert fleet.list_processes(key) == []


async def test_a_stranger_on_the_port_is_not_taken_for_the_instance(fleet):
    fleet.settings.boot_timeout_s = 1.5
    key = fleet.ask(program=SERVER_OF_A_STRANGER)
    async with supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert row.ready_us is None and row.boot_id is not None


async def test_what_a_killed_supervisor_left_of_a_gone_instance_is_cleared(fleet):
    key = fleet.ask(actual="stopped", wanted="stopped", ready_us=1)
    left = [fleet.settings.state_path / name / key for name in ("terraform", "instances")]
    for folder in left:
        folder.mkdir(mode=0o700)
    async with supervising(fleet):
        await fleet.wait(lambda: not any(folder.exists() for folder in left))


async def test_unsent_records_keep_the_folder_of_a_gone_instance(fleet):
    key = fleet.ask(actual="stopping", wanted="stopped", ready_us=1)
    folder = fleet.settings.state_path / "instances" / key
    folder.mkdir(mode=0o700)
    (folder / "ship.json").write_text("{}")
    async with supervising(fleet):
        await fleet.wait_state(key, "stopped")
    assert (folder / "ship.json").exists()


class TestBootstrap:
    """The one exchange by which an instance becomes itself."""

    @pytest.fixture
    def nonce(self):
        return secrets.token_hex(32)

    @pytest.fixture
    def key(self, fleet, nonce):
        return fleet.ask(actual="booting", nonce_sha256=sha256_hex(nonce))

    @pytest.fixture
    async def client(self, fleet, key):
        # Without a supervisor at work: nothing but the call changes the record.
        async with serving("supervisor", fleet.database, make, fleet.settings) as (client, _):
            yield client
        with fleet.database.write() as conn:
            conn.execute(instance.update().values(actual="stopped"))

    @staticmethod
    def call(key, nonce, **changes):
        whole = {
            "instance_id": key,
            "nonce": nonce,
            "boot_id": "b0" * 16,
            "host": "127.0.0.1",
            "port": 40123,
        }
        return {**whole, **changes}

    async def test_a_nonce_is_traded_for_all_that_the_instance_needs(
        self, fleet, client, key, nonce
    ):
        with fleet.database.write() as conn:
            ensure_dataset(
                conn, Dataset("ct", "CT scans", "", "be kind", "/data/ct", "ranges", "strict")
            )
            ensure_dataset(conn, Dataset("ecg", "ECGs", "", "", "/data/ecg"))
            grant(conn, "ct", "alice", 1)
            accept(conn, "ct", "alice", 1, 1)
        answer = await client.post("bootstrap", "", json=self.call(key, nonce))
        assert answer.status_code == 200
        reply = answer.json()
        row = fleet.get(key)
        assert (row.host, row.port, row.boot_id) == ("127.0.0.1", 40123, "b0" * 16)
        assert (row.nonce_sha256, row.launch_secret) == (None, None)
        assert row.credential_sha256 == sha256_hex(reply.pop("credential"))
        assert row.api_nonce == reply.pop("api_nonce")
        url = fleet.settings.public_url
        assert reply.pop("cmd")[1] == "-c"
        assert reply == {
            "owner": "alice",
            "server_name": "",
            "args": ["--one"],
            "env": {"JUPYTERHUB_SERVICE_PREFIX": "/user/alice/", "SECRET": "of the server"},
            "home": str(fleet.settings.state_path / "homes" / instances.owner_hash("alice")),
            "system_user": None,
            "cpus": 1,
            "datasets": [
                {
                    "name": "ct",
                    "title": "CT scans",
                    "path": "/data/ct",
                    "policy": "ranges",
                    "fallback": "strict",
                    "extras": [],
                }
            ],
            "spool_limit_bytes": 256 << 20,
            "audit_limits": {
                "refuse_opens_after_s": 60.0,
                "refuse_reads_after_s": 900.0,
                "stop_after_s": 3600.0,
                "spool_full_percent": 80,
            },
            "counts_egress": False,
            "audit_url": f"{url}services/audit/api/",
            "metering_url": f"{url}services/metering/api/",
            "supervisor_url": f"{url}services/supervisor/api/",
            "console_url": f"{url}services/console/api/",
        }

    async def test_users_are_isolated_by_a_system_user_of_their_own(
        self, fleet, client, key, nonce
    ):
        fleet.settings.isolate_users = True
        reply = (await client.post("bootstrap", "", json=self.call(key, nonce))).json()
        assert reply["system_user"] == name_system_user(
            fleet.settings.secret_key(), instances.owner_hash("alice")
        )

    async def test_a_nonce_works_once(self, fleet, client, key, nonce):
        await client.post("bootstrap", "", json=self.call(key, nonce))
        before = fleet.get(key)
        again = await client.post("bootstrap", "", json=self.call(key, nonce, port=1024))
        assert again.status_code == 403
        assert again.json()["error"]["code"] == "not_allowed"
        assert fleet.get(key) == before

    async def test_a_wrong_nonce_changes_nothing(self, fleet, client, key, nonce, caplog):
        before = fleet.get(key)
        wrong = await client.post("bootstrap", "", json=self.call(key, secrets.token_hex(32)))
        assert wrong.status_code == 403
        assert "refused" in caplog.text and nonce not in caplog.text
        assert fleet.get(key) == before
        right = await client.post("bootstrap", "", json=self.call(key, nonce))
        assert right.status_code == 200

    @pytest.mark.parametrize("actual", ["requested", "running", "stopping"])
    async def test_a_nonce_works_only_while_the_instance_boots(
        self, fleet, client, key, nonce, actual
    ):
        with fleet.database.write() as conn:
            conn.execute(instance.update().values(actual=actual))
        refused = await client.post("bootstrap", "", json=self.call(key, nonce))
        assert refused.status_code == 403
        assert fleet.get(key).launch_secret is not None

    async def test_a_nonce_is_withdrawn_with_a_stop(self, fleet, client, key, nonce):
        fleet.stop(key)
        refused = await client.post("bootstrap", "", json=self.call(key, nonce))
        assert refused.status_code == 403

    async def test_an_instance_of_this_machine_answers_on_loopback_alone(
        self, fleet, client, key, nonce
    ):
        refused = await client.post("bootstrap", "", json=self.call(key, nonce, host="10.0.0.1"))
        assert refused.status_code == 400
        assert "answers on loopback" in refused.text
        assert fleet.get(key).launch_secret is not None

    async def test_an_unknown_instance_is_not_found(self, client, key, nonce):
        call = self.call("i-000000000000", nonce)
        assert (await client.post("bootstrap", "", json=call)).status_code == 404

    async def test_a_call_of_any_size_is_not_read(self, client, key, nonce):
        call = self.call(key, nonce, boot_id="b" * 20_000)
        answer = await client.post("bootstrap", "", json=call)
        assert answer.status_code == 413

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"text"'])
    async def test_a_call_that_is_no_object_is_refused(self, client, body):
        answer = await client.post("bootstrap", "", content=body)
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"instance_id": "../../etc/passwd"},
        {"instance_id": "i-000000000000\n"},
        {"instance_id": None},
        {"nonce": ""},
        {"nonce": ["0" * 64]},
        {"boot_id": "${file('/etc/shadow')}"},
        {"host": "0.0.0.0"},
        {"host": "224.0.0.1"},
        {"host": "169.254.169.254"},
        {"host": "localhost"},
        {"host": "127.0.0.1/admin"},
        {"host": 2130706433},
        {"host": None},
        {"port": 0},
        {"port": 65536},
        {"port": "80"},
        {"port": True},
        {"port": 80.0},
        {"extra": 1},
    ],
)
def test_a_malformed_call_is_refused_by_name(changes):
    call = TestBootstrap.call("i-000000000000", "0" * 64)
    parse_call(call)
    with pytest.raises(BadInput):
        parse_call({**call, **changes})
    for name in changes.keys() & call.keys():
        with pytest.raises(BadInput):
            parse_call({each: value for each, value in call.items() if each != name})


class TestApi:
    """What the console may ask."""

    async def test_a_stop_is_accepted_once_and_the_hub_is_told(self, fleet):
        key = fleet.ask(owner="o'hara @x", server="gpu box")
        async with supervising(fleet):
            await fleet.wait_state(key, "running")
            body = {"reason": "budget\x1b[2J", "actor": "admin"}
            first = await fleet.client.post(f"instances/{key}/stop", "console-token", json=body)
            again = await fleet.client.post(f"instances/{key}/stop", "console-token", json=body)
            row = await fleet.wait_state(key, "stopped")
            await fleet.wait(lambda: fleet.told)
        assert first.json() == {"accepted": True, "stop_accepted_us": row.stop_accepted_us}
        assert again.json() == {"accepted": False, "stop_accepted_us": row.stop_accepted_us}
        assert row.reason == "admin: budget\\x1b[2J"
        path = "/hub/api/users/o%27hara%20%40x/servers/gpu%20box"
        assert fleet.told == [f"Bearer supervisor-token {path}"]

    @pytest.mark.parametrize("token", ["", "alice-token", "billing-token", "unknown"])
    async def test_nobody_but_the_console_may_ask(self, fleet, token):
        key = fleet.ask()
        async with supervising(fleet):
            answer = await fleet.client.post(f"instances/{key}/stop", token, json={"reason": "x"})
            assert answer.status_code == 403
            assert fleet.get(key).wanted == "running"

    async def test_a_stop_of_what_never_was_is_not_found(self, fleet):
        async with supervising(fleet):
            path, body = "instances/i-000000000000/stop", {"reason": "x"}
            answer = await fleet.client.post(path, "console-token", json=body)
            assert answer.status_code == 404

    @pytest.mark.parametrize(
        "body",
        [{}, {"reason": ""}, {"reason": 1}, {"reason": "x" * 700}, {"reason": "x", "actor": 1}],
    )
    async def test_a_stop_says_why(self, fleet, body):
        key = fleet.ask()
        async with supervising(fleet):
            answer = await fleet.client.post(f"instances/{key}/stop", "console-token", json=body)
            assert answer.status_code == 400
            assert fleet.get(key).stop_accepted_us is None
