"""An audit service that only takes batches, so that ingest is measured alone."""

from dataclasses import replace

from nightingale_hub.service import Context, Service, run
from nightingale_hub.services.audit import service


def make(context: Context) -> Service:
    made = service.make(context)
    return replace(made, loops=[loop for loop in made.loops if loop.name == "writer"])


if __name__ == "__main__":
    run("audit", make)
