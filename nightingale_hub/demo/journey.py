"""The researcher's journey without a browser: log in, choose, train, look, stop, check the bill.

It holds every figure against a second source: the page's price against the statement's, the
bytes that the training counted against the audit log, the seconds against its own clock.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx

from nightingale_hub.demo.kernel import Kernel
from nightingale_hub.demo.receipt import Receipt
from nightingale_hub.demo.state import RESEARCHER, DemoState
from nightingale_hub.errors import JourneyFailed, Unavailable

SIZE = {"cpu": "S", "gpu": "none", "disk": "S"}
WAIT_S = 60.0

TRAIN = """
import runpy
runpy.run_module("nightingale_hub.demo.training", run_name="__main__")
"""
COMMAND = """
import json, subprocess
done = subprocess.run(["nightingale", {arguments}, "--json"], capture_output=True, text=True)
print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


class Journey:
    """One researcher's visit to a running demo hub."""

    def __init__(self, demo: DemoState, say: Callable[[str], None]) -> None:
        """Prepare a visit to *demo*, reporting each step through *say*."""
        self._demo = demo
        self._say = say
        self._http = httpx.Client(
            base_url=demo.url, follow_redirects=True, timeout=30, trust_env=False
        )
        self._token = ""
        self._receipt = Receipt()

    def run(self) -> Receipt:
        """Do the whole journey and return its receipt; raises at the first step that fails."""
        try:
            self._travel()
        except httpx.HTTPError as error:
            raise Unavailable(f"the hub did not answer in time: {error!r}") from error
        return self._receipt

    def _travel(self) -> None:
        with self._http:
            self._log_in()
            self._accept_terms()
            price = self._read_prices()
            asked_us = _now_us()
            self._start()
            ready_us = _now_us()
            self._kernel = Kernel(f"{self._demo.url}/user/{RESEARCHER}/", self._token)
            try:
                self._train()
                self._compare_reads()
                self._look_from_inside()
                stopping_us = _now_us()
                self._stop()
            finally:
                self._kernel.close()
            self._compare_statement(price, (asked_us, ready_us, stopping_us, _now_us()))

    def _log_in(self) -> None:
        self._say(f"logging in as {RESEARCHER}")
        page = self._http.get("/hub/login")
        form = {
            "username": RESEARCHER,
            "password": self._demo.user_password,
            "_xsrf": _find(r'name="_xsrf"\s+value="([^"]+)"', page.text, "the login form"),
        }
        page = self._http.post("/hub/login", data=form)
        if page.status_code != 200 or "/hub/login" in str(page.url):
            raise JourneyFailed(f"login was refused ({page.status_code})")
        answer = self._http.post(
            f"/hub/api/users/{RESEARCHER}/tokens",
            json={"note": "journey", "expires_in": 3600},
            headers={"X-XSRFToken": self._xsrf(), "Referer": self._demo.url + "/hub/token"},
        )
        self._token = _json(answer)["token"]

    def _accept_terms(self) -> None:
        self._say("accepting the terms of the datasets")
        page = self._http.get("/services/console/datasets").text
        names = re.findall(r'name="dataset" value="([^"]+)">\s*<input[^>]*name="version"', page)
        for name in names:
            version = _find(
                rf'value="{name}">\s*<input[^>]*name="version" value="(\d+)"', page, "the terms"
            )
            xsrf = _find(r'name="_xsrf" value="([^"]+)"', page, "the data page's form")
            form = {"dataset": name, "version": version, "agreed": "yes", "do": "accept"}
            answer = self._http.post("/services/console/datasets", data={**form, "_xsrf": xsrf})
            if answer.status_code != 200:
                raise JourneyFailed(f"the terms of {name} were refused ({answer.status_code})")

    def _read_prices(self) -> int:
        """Return the price of the chosen size in nano-USD per hour, as the spawn page shows it."""
        self._say("reading the sizes and prices on the spawn page")
        page = self._http.get("/hub/spawn").text
        total = 0
        for resource, letter in SIZE.items():
            tag = _find(
                rf'(<input[^>]*name="{resource}"[^>]*value="{letter}"[^>]*>)', page, resource
            )
            total += int(_find(r'data-nano="(\d+)"', tag, f"{resource}'s price"))
        return total

    def _start(self) -> None:
        self._say("starting a server: " + ", ".join(f"{k} {v}" for k, v in SIZE.items()))
        page_after = self._http.post("/hub/spawn", params={"_xsrf": self._xsrf()}, data=SIZE)
        if page_after.status_code != 200:
            raise JourneyFailed(f"the spawn form was refused ({page_after.status_code})")
        url = f"/hub/api/users/{RESEARCHER}/server/progress"
        with self._http.stream("GET", url, headers=self._headers(), timeout=300) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line.removeprefix("data:"))
                self._say(f"  {event['message']}")
                if "terraform_data" in event["message"]:
                    self._receipt.terraform_steps.append(event["message"])
                if event.get("failed"):
                    raise JourneyFailed(f"the server did not start: {event['message']}")
                if event.get("ready"):
                    break
        status = self._console("status")["instance"]
        self._receipt.instance_id = status["id"]
        self._receipt.size = ", ".join(f"{k} {v}" for k, v in SIZE.items())
        self._receipt.check(
            "Terraform's own steps were shown", bool(self._receipt.terraform_steps), True
        )

    def _train(self) -> None:
        self._say("training a model on the datasets, through the audit mount")
        result = json.loads(self._kernel.run(TRAIN))
        self._sizes: dict[str, int] = result["sizes"]
        self._receipt.files = len(self._sizes)
        self._receipt.bytes_read = sum(self._sizes.values())
        self._receipt.accuracy = result["accuracy"]
        self._receipt.images = result["images"]
        self._receipt.check("the model learned (over 90 % right)", result["accuracy"] > 0.9, True)

    def _compare_reads(self) -> None:
        self._say("comparing what was read with what was logged")
        deadline = time.monotonic() + WAIT_S
        while True:
            got: dict[str, int] = {}
            for read in self._list_reads():
                path = f"{read['dataset']}/{read['path']}"
                if read["action"] == "read":
                    got[path] = got.get(path, 0) + read["length"]
            if got == self._sizes or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        differing = sorted(
            path
            for path in got.keys() | self._sizes.keys()
            if got.get(path) != self._sizes.get(path)
        )
        self._receipt.check("every byte that was read is logged, and no other", differing, [])
        closed = self._console("status")["closed"]
        self._receipt.check("training raised no alarm that closes the data", closed, None)

    def _list_reads(self) -> list[dict[str, Any]]:
        reads: list[dict[str, Any]] = []
        parameters: dict[str, Any] = {"instance": self._receipt.instance_id, "limit": 1000}
        while True:
            page = self._console("reads", **parameters)
            reads += page["reads"]
            if page["next"] is None:
                return reads
            parameters["before"] = page["next"]

    def _look_from_inside(self) -> None:
        self._say("asking the command line for status, sizes and cost")
        status = self._command("status")
        self._receipt.check(
            "`nightingale status` names this instance",
            status["instance"]["id"],
            self._receipt.instance_id,
        )
        self._receipt.check("`nightingale sizes` lists sizes", bool(self._command("sizes")), True)
        self._command("cost")

    def _stop(self) -> None:
        self._say("stopping from the command line")
        try:
            self._command("stop", "-y")
        except Unavailable as error:
            # The server may be gone before its kernel's answer is through; the bill will tell.
            self._say(f"  ({error})")
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            answer = self._http.get(f"/hub/api/users/{RESEARCHER}", headers=self._headers())
            if not _json(answer).get("servers"):
                return
            time.sleep(0.2)
        raise JourneyFailed(f"the server did not stop within {WAIT_S:.0f} s")

    def _compare_statement(self, price: int, seen_us: tuple[int, int, int, int]) -> None:
        self._say("checking the statement")
        month = time.strftime("%Y-%m", time.gmtime(seen_us[0] / 1e6))
        deadline = time.monotonic() + WAIT_S
        while True:
            statement = self._console("statement", month=month)
            mine = [
                line
                for line in statement["lines"]
                if line["instance_id"] == self._receipt.instance_id
            ]
            if mine or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        check = self._receipt.check
        check("the statement has one line for the instance", len(mine), 1)
        if len(mine) != 1:
            return
        line = mine[0]
        asked_us, ready_us, stopping_us, stopped_us = seen_us
        least, most = (
            (stopping_us - ready_us) // 1_000_000,
            (stopped_us - asked_us) // 1_000_000 + 1,
        )
        self._receipt.seconds = line["seconds"]
        self._receipt.nano_usd_per_hour = line["nano_per_hour"]
        self._receipt.amount_micro_usd = line["amount_micro"]
        check("the rate is the one that the spawn page showed", line["nano_per_hour"], price)
        check("the seconds fit this clock", least <= line["seconds"] <= most, True)
        span_us = line["end_us"] - line["start_us"]
        check("the seconds are those from ready to stop", line["seconds"], -(-span_us // 1_000_000))
        # Half-even to the micro-dollar, worked out here with exact integers of its own.
        exact = line["seconds"] * price
        check(
            "the amount is seconds times rate",
            abs(exact - line["amount_micro"] * 3_600_000) * 2 <= 3_600_000,
            True,
        )
        total = sum(each["amount_micro"] for each in statement["lines"])
        check("the lines add up to the total", statement["total_micro"], total)

    def _xsrf(self) -> str:
        self._http.get("/hub/token")  # a login's new session has a token of its own
        cookies = self._http.cookies.jar
        return next(c.value or "" for c in cookies if c.name == "_xsrf" and "/hub" in c.path)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _console(self, what: str, **parameters: Any) -> dict[str, Any]:
        answer = self._http.get(
            f"/services/console/api/{what}", params=parameters, headers=self._headers()
        )
        return _json(answer)

    def _command(self, *arguments: str) -> dict[str, Any]:
        code = COMMAND.format(arguments=", ".join(map(repr, arguments)))
        status, out, err = json.loads(self._kernel.run(code))
        if status != 0:
            raise JourneyFailed(f"nightingale {arguments[0]} ended with {status}: {out}{err}")
        answer: dict[str, Any] = json.loads(out)
        return answer


def _now_us() -> int:
    return time.time_ns() // 1000


def _find(pattern: str, text: str, what: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise JourneyFailed(f"{what} was not found on the page")
    return match[1]


def _json(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code >= 400:
        raise Unavailable(
            f"{answer.request.url} answered {answer.status_code}: {answer.text[:300]}"
        )
    body: dict[str, Any] = answer.json()
    return body
