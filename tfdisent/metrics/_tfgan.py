"""TF-GAN's `eval/classifier_metrics.py`, loaded without the rest of TF-GAN.

`import tensorflow_gan` fails on TensorFlow >= 2.16 (its training code needs `tf.estimator`) and on Python >= 3.12
(`distutils`, `pkg_resources`). The module that computes Fréchet distance (FID), kernel distance (KID) and Inception
score (IS) needs only TensorFlow and TensorFlow Probability. It is imported here under empty stand-ins of its parent
packages, so that their `__init__` do not run.
"""

import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import sys
import types
import warnings
from collections.abc import Iterator

_PACKAGES = ("tensorflow_gan", "tensorflow_gan.python", "tensorflow_gan.python.eval")
_PIP = "pip install tensorflow tensorflow-gan tensorflow-probability tf-keras"


@functools.cache
def classifier_metrics() -> types.ModuleType:
    """Returns TF-GAN's module `classifier_metrics`.

    Raises:
        ImportError: TensorFlow, TF-GAN or TensorFlow Probability is missing; the message has the pip command.
    """
    for package in ("tensorflow", "tensorflow_gan", "tensorflow_probability"):
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            raise ImportError(
                f"FID, KID and IS are computed by TF-GAN, and the package {package!r} is not installed. Install what "
                f"is missing with `{_PIP}`."
            )
    with _stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow Probability: distutils is deprecated
        try:
            return importlib.import_module("tensorflow_gan.python.eval.classifier_metrics")
        except ImportError as error:
            raise ImportError(
                f"TF-GAN's classifier_metrics does not load: {error}. Bring its parts up to date with `{_PIP} "
                "setuptools --upgrade`."
            ) from error


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Puts empty packages into `sys.modules` and removes all of TF-GAN from it afterwards.

    A later `import tensorflow_gan` then runs (or fails) as if this had not happened. If TF-GAN has been imported in
    full already, that import is used.
    """
    if "tensorflow_gan" in sys.modules:
        yield
        return
    folder = importlib.util.find_spec("tensorflow_gan").submodule_search_locations[0]
    for name in _PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [os.path.join(folder, *name.split(".")[1:])]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow_gan"]:
            del sys.modules[name]


@contextlib.contextmanager
def on_cpu() -> Iterator[types.ModuleType]:
    """Gives TF-GAN's module for use inside the block, on the CPU, as float64 results of GPUs differ between cards.

    TensorFlow's warnings of deprecations, which TF-GAN's code causes, are silent meanwhile.
    """
    module = classifier_metrics()
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with module.tf.device("/CPU:0"):
            yield module
    finally:
        logger.setLevel(level)
