"""What the researcher sees in JupyterLab: the built panel, and a resize panel for notebooks."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Loaded when it is used: an agent looks this part up, and has no use for ipywidgets.
    if name == "ResizePanel":
        from nightingale_hub.labextension.widget import ResizePanel

        return ResizePanel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
