import importlib.util
import sys

import pytest

from tfdisent.metrics import _tfgan


def test_the_metrics_are_those_of_the_installed_package():
    module = _tfgan.classifier_metrics()
    folder = importlib.util.find_spec("tensorflow_gan").submodule_search_locations[0]
    assert module.__file__.startswith(folder)
    assert _tfgan.classifier_metrics() is module


def test_loading_leaves_no_trace_of_tfgan():
    _tfgan.classifier_metrics.cache_clear()
    _tfgan.classifier_metrics()
    assert not [name for name in sys.modules if name.startswith("tensorflow_gan")]


@pytest.mark.parametrize("missing", ["tensorflow_gan", "tensorflow_probability"])
def test_a_missing_package_is_named_with_the_pip_command(monkeypatch, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    _tfgan.classifier_metrics.cache_clear()
    with pytest.raises(ImportError, match=f"'{missing}' is not installed.*pip install"):
        _tfgan.classifier_metrics()


def test_metrics_import_neither_tensorflow_nor_keras(run_python):
    code = """
import sys
import tfdisent.metrics
print([name for name in ("tensorflow", "keras", "jax", "torch", "sklearn") if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"
