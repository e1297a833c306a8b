"""Published disentanglement systems for medical images, in Keras 3.

    import tfdisent
    from tfdisent import DRAI, DRAIConfig

    model = DRAI(DRAIConfig(image_size=32))
    tfdisent.export.export(model, "saved_models/drai", card={"title": "DRAI"})

Systems and modules are imported when they are first asked for: `import tfdisent` costs nothing, and what needs
TensorFlow (`data`, `export`) is in nobody's way on another backend. What Keras saved of them, `keras.models.load_model`
loads after `import tfdisent`.
"""

import importlib

from tfdisent import _registration
from tfdisent._version import __version__

# name on the command line -> module, class, class of its configuration
SYSTEMS = {
    "drai": ("tfdisent.systems.drai", "DRAI", "DRAIConfig"),
    "unified": ("tfdisent.systems.unified", "Unified", "UnifiedConfig"),
    "margin": ("tfdisent.systems.margin", "Margin", "MarginConfig"),
    "harmonize": ("tfdisent.systems.harmonize", "Harmonize", "HarmonizeConfig"),
    "mmsdnet": ("tfdisent.systems.mmsdnet", "MMSDNet", "MMSDNetConfig"),
}

_MODULES = (
    "apply",
    "data",
    "datasets",
    "experiment",
    "export",
    "layers",
    "losses",
    "metrics",
    "papers",
    "phantoms",
    "training",
    "volumes",
)
_HOMES = {name: module for module, *names in SYSTEMS.values() for name in names}

__all__ = ["SYSTEMS", "__version__", *_HOMES, *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"tfdisent.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tfdisent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


_registration.register()
