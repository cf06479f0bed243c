"""Runs the supervisor service: `python -m nightingale_hub.services.supervisor`."""

from nightingale_hub.service import run
from nightingale_hub.services.supervisor.service import make

if __name__ == "__main__":
    run("supervisor", make)
