"""An experiment: settings, preparation, training, evaluation, export, reproduction, augmentation.

    from tfdisent.experiment import Settings, prepare, fit, evaluate, export

    run = prepare(Settings(system="drai", dataset="skin_phantom", preset="quick"))
    fit(run)
    evaluate(run)
    export(run)

Names are imported when they are first asked for, so that commands answer --help at once.
"""

import importlib

_HOMES = {
    "Run": "run",
    "Settings": "settings",
    "augment": "augmentation",
    "benchmark": "travelling",
    "command_of": "settings",
    "cross_validate": "folds",
    "describe": "info",
    "evaluate": "run",
    "export": "run",
    "fit": "run",
    "open_run": "run",
    "prepare": "run",
    "reproduce": "reproduction",
    "require_all_measured": "run",
    "train": "run",
    "train_from_each": "sources",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"tfdisent.experiment.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tfdisent.experiment' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
