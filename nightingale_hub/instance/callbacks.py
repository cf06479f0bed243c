"""Callbacks for Keras, PyTorch Lightning and Hugging Face's Trainer.

Each keeps the instance while it trains, then tells me, and stops the instance with `then="stop"`.
None of these libraries is needed here: each is imported when its callback is asked for.
"""

from contextlib import AbstractContextManager
from typing import Any

from nightingale_hub.instance import training


class Watch:
    """What all three do, in this project's words."""

    def __init__(self, then: str) -> None:
        """Do *then* afterwards: `stop` or nothing."""
        self._then = then
        self._held: AbstractContextManager[None] | None = None

    def begin(self) -> None:
        """Keep the instance from here on."""
        self._held = training.keep_alive()
        self._held.__enter__()

    def end(self, error: BaseException | None = None) -> None:
        """Let go, tell, and do what follows; an interrupt is followed by nothing."""
        if self._held is None:
            return
        self._held.__exit__(None, None, None)
        self._held = None
        if error is None:
            training.finish("The training is done", then=self._then)
        elif isinstance(error, Exception):
            training.finish(*training.describe(error), error=True, then=self._then)


def keras_callback(then: str = "") -> Any:
    """Return one for `model.fit(callbacks=[…])`. Keras says nothing of an error: wrap `fit` too."""
    import keras

    watch = Watch(then)

    class Callback(keras.callbacks.Callback):  # type: ignore[misc]  # no dependency of ours
        def on_train_begin(self, logs: Any = None) -> None:
            watch.begin()

        def on_train_end(self, logs: Any = None) -> None:
            watch.end()

    return Callback()


def lightning_callback(then: str = "") -> Any:
    """Return one for `Trainer(callbacks=[…])` of PyTorch Lightning."""
    from lightning.pytorch.callbacks import Callback as Base

    watch = Watch(then)

    class Callback(Base):  # type: ignore[misc]  # no dependency of ours
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.is_global_zero:
                watch.begin()

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            watch.end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            watch.end(exception)

    return Callback()


def transformers_callback(then: str = "") -> Any:
    """Return one for `Trainer(callbacks=[…])` of Hugging Face. Of an error it hears nothing."""
    from transformers import TrainerCallback

    watch = Watch(then)

    class Callback(TrainerCallback):  # type: ignore[misc]  # no dependency of ours
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                watch.begin()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.end()

    return Callback()
