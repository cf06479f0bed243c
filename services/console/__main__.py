"""Runs the console service: `python -m nightingale_hub.services.console`."""

from nightingale_hub import service
from nightingale_hub.services.console.routes import make

if __name__ == "__main__":
    service.run("console", make)
