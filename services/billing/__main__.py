"""`python -m nightingale_hub.services.billing`: billing as a process of its own."""

from nightingale_hub.service import run
from nightingale_hub.services.billing.service import make

if __name__ == "__main__":
    run("billing", make)
