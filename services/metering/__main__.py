"""Runs the metering service, as the hub does."""

from nightingale_hub.service import run
from nightingale_hub.services.metering.service import make

if __name__ == "__main__":
    run("metering", make)
