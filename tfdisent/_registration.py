"""Lets Keras load what the package defines, though `import tfdisent` imports neither Keras nor any of it.

Keras looks a saved class up by a name such as "tfdisent>DRAI", which a class gets where it is defined. So that
`keras.models.load_model` also finds it where its module was not imported, the name stands for a `Deferred` class until
then. It is entered when Keras is there: at once, or when Keras is imported, which an import hook tells.
"""

import importlib
import importlib.abc
import importlib.util
import sys

# Module -> its classes that may stand in a file of Keras.
CLASSES = {
    "tfdisent.systems.drai": ("DRAI",),
    "tfdisent.systems.unified": ("Unified",),
    "tfdisent.systems.margin": ("Margin",),
    "tfdisent.systems.harmonize": ("Harmonize",),
    "tfdisent.systems.mmsdnet": ("MMSDNet",),
    "tfdisent.baselines.drai": ("CInfoGAN", "DCInfoGAN", "CAVAE", "DCAVAE"),
    "tfdisent.baselines.unified": ("Pix2Pix", "TCMGAN"),
    "tfdisent.baselines.margin": ("MarginAdversarial",),
    "tfdisent.baselines.harmonize": ("CycleGAN",),
    "tfdisent.baselines.mmsdnet": ("DualStream", "UNet"),
    "tfdisent.layers.convolution": ("CondConv2D", "UpsampleConv2D"),
    "tfdisent.layers.normalization": (
        "GroupwiseBatchNormalization",
        "InstanceNormalization",
        "SpatialModulation",
        "SpectralNormalization",
    ),
    "tfdisent.layers.stochastic": (
        "GaussianSampling",
        "GradientReversal",
        "StraightThroughOneHot",
        "StraightThroughRounding",
    ),
    "tfdisent.layers.transformer": ("ThinPlateTransformer",),
}


class Deferred:
    """Stands for a class of a module that is imported when an object of the class is made from its config."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def from_config(self, config: dict):
        """An object of the class; importing its module registers the class itself in the place of this."""
        return getattr(importlib.import_module(self.module), self.name).from_config(config)


class _WhenKerasIsImported(importlib.abc.MetaPathFinder):
    """Finds Keras as others do, and enters the names after it was imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_enter(module):
                execute(module)
                _enter(module)

            spec.loader.exec_module = execute_and_enter
        return spec


def register() -> None:
    """Makes the names known to Keras, now or when it is imported."""
    if "keras" in sys.modules:
        _enter(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _WhenKerasIsImported())


def _enter(keras) -> None:
    objects = keras.saving.get_custom_objects()
    for module, names in CLASSES.items():
        for name in names:
            objects.setdefault(f"tfdisent>{name}", Deferred(module, name))
