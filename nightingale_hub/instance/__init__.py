"""What runs on an instance; what a program may ask of it (docs/python.md) loads when used."""

import importlib
from typing import Any

_TRAINING = (
    "cost extend keep_alive list_files notify notify_on_error resize sizes status stop "
    "stop_when_done"
)
_CALLBACKS = "keras_callback lightning_callback transformers_callback"


def __getattr__(name: str) -> Any:
    for home, names in (("training", _TRAINING), ("callbacks", _CALLBACKS)):
        if name in names.split():
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
