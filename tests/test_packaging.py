"""The wheel: what is in it, and what it asks for."""

import email
import importlib
import importlib.metadata
import pathlib
import re
import shutil
import sys
import zipfile

import pytest

import tfdisent
from tests.test_imports import FILES, imports

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, run_python):
    """The wheel, built offline from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    for package in ("tfdisent", "datasets", "train", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=ignore)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    run_python(f"import os; os.chdir({str(copy)!r}); {build}")
    with zipfile.ZipFile(*copy.glob("*.whl")) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_holds_the_whole_of_tfdisent_and_nothing_else(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = (ROOT / "tfdisent").rglob("*")
    expected = {p.relative_to(ROOT).as_posix() for p in source if p.suffix in (".py", ".jinja")}
    assert held == expected


def test_the_wheel_has_the_version_and_licence_of_the_tree(wheel, metadata):
    assert metadata["Name"] == "tfdisent"
    assert metadata["Version"] == tfdisent.__version__
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


def test_the_wheel_brings_the_console_script(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    module, function = re.search(r"^tfdisent *= *([\w.]+):(\w+)$", wheel.read(name).decode(), re.MULTILINE).groups()
    assert callable(getattr(importlib.import_module(module), function))


def test_every_package_that_the_code_imports_is_asked_for(metadata):
    asked = {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in metadata.get_all("Requires-Dist")}
    homes = {"ants": ["antspyx"]} | importlib.metadata.packages_distributions()  # which need not be installed
    for file in FILES:
        for module in {name.partition(".")[0] for name in imports(file)}:
            if module in sys.stdlib_module_names or module in ("tfdisent", "datasets", "train"):
                continue
            assert {canonical(home) for home in homes.get(module, [module])} & asked, (file, module)


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
