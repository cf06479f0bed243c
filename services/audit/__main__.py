"""Runs the audit service, as the hub does."""

from nightingale_hub.service import run
from nightingale_hub.services.audit.service import make

if __name__ == "__main__":
    run("audit", make)
