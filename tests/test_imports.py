"""Who imports whom, and when."""

import ast
import importlib.util
import pathlib

import pytest

import tfdisent

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = {"tensorflow", "jax", "torch"}
PACKAGES = ("tfdisent", "datasets", "train")

# Part of the project -> what else of the project it may import, besides itself.
ALLOWED = {
    "tfdisent.examples": (),
    "tfdisent.familiarity": (),
    "tfdisent.files": (),
    "tfdisent.intensity": (),
    "tfdisent.messages": (),
    "tfdisent.privacy": (),
    "tfdisent.layers": (),
    "tfdisent.losses": (),
    "tfdisent.metrics": (),
    "tfdisent.papers": (),
    "tfdisent.phantoms": (),
    "tfdisent.volumes": (),
    "tfdisent.report": ("tfdisent.papers",),
    "tfdisent.networks": ("tfdisent.layers",),
    "tfdisent.training": ("tfdisent.layers", "tfdisent.losses"),
    "tfdisent.downstream": (
        "tfdisent.layers",
        "tfdisent.losses",
        "tfdisent.networks",
        "tfdisent.training",
    ),
    "tfdisent.systems": (
        "tfdisent.layers",
        "tfdisent.losses",
        "tfdisent.networks",
        "tfdisent.training",
    ),
    "tfdisent.baselines": (
        "tfdisent.layers",
        "tfdisent.losses",
        "tfdisent.networks",
        "tfdisent.systems",
        "tfdisent.training",
    ),
    "tfdisent.data": ("tfdisent.phantoms", "tfdisent.volumes"),
    "tfdisent.datasets": (
        "tfdisent.data",
        "tfdisent.phantoms",
        "tfdisent.volumes",
    ),
    "tfdisent.evaluation": (
        "tfdisent.downstream",
        "tfdisent.metrics",
        "tfdisent.papers",
        "tfdisent.report",
        "tfdisent.systems",
        "tfdisent.volumes",
    ),
    "tfdisent.export": (),
    "tfdisent.apply": ("tfdisent.volumes",),
    "tfdisent.apply.__main__": ("tfdisent.commands",),
    "tfdisent.experiment": (
        "tfdisent.baselines",
        "tfdisent.data",
        "tfdisent.datasets",
        "tfdisent.downstream",
        "tfdisent.evaluation",
        "tfdisent.export",
        "tfdisent.metrics",
        "tfdisent.papers",
        "tfdisent.report",
        "tfdisent.systems",
        "tfdisent.training",
    ),
    "tfdisent.commands": ("tfdisent",),
    "tfdisent": (),
    "datasets": ("tfdisent.commands",),
    "train": ("tfdisent.commands",),
}

# What every part may use.
EVERYWHERE = (
    "tfdisent._version",
    "tfdisent.examples",
    "tfdisent.familiarity",
    "tfdisent.files",
    "tfdisent.intensity",
    "tfdisent.messages",
    "tfdisent.privacy",
)

# Files and folders that may import a backend, and which one.
BACKEND_USERS = {
    "tfdisent/training/_tensorflow.py": "tensorflow",
    "tfdisent/training/_jax.py": "jax",
    "tfdisent/training/_torch.py": "torch",
    "tfdisent/metrics/_tfgan.py": "tensorflow",
    "tfdisent/data/": "tensorflow",
    "tfdisent/export.py": "tensorflow",
    "tfdisent/apply": "tensorflow",
    "tfdisent/datasets/": "tensorflow",
    "tfdisent/experiment/": "tensorflow",
}

FILES = [path.relative_to(ROOT).as_posix() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(file: str) -> set[str]:
    """Everything that a file imports, anywhere in it, by full name."""
    package = module_name(file).split(".")
    if not file.endswith("__init__.py"):
        package = package[:-1]
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def commands() -> list[str]:
    """Modules that are run with `python -m`, and those of the console script's verbs."""
    return [
        module_name(file)
        for file in FILES
        if file.startswith("tfdisent/commands/") or 'if __name__ == "__main__":' in (ROOT / file).read_text("utf-8")
    ]


@pytest.mark.parametrize("file", FILES)
def test_parts_import_only_what_lies_below_them(file):
    part = max((part for part in ALLOWED if within(module_name(file), part)), key=len)
    for name in imports(file):
        if name.partition(".")[0] in PACKAGES:
            assert any(within(name, allowed) for allowed in (part, *EVERYWHERE, *ALLOWED[part])), name


def cycles() -> list[list[str]]:
    """Modules of the package that import themselves through others, also inside of functions: each group once."""
    modules = {module_name(file): file for file in FILES if within(module_name(file), "tfdisent")}

    def module_of(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name or None

    edges = {name: {module_of(found) for found in imports(file)} - {None, name} for name, file in modules.items()}
    reached = {name: set(found) for name, found in edges.items()}
    for between in modules:
        for name in modules:
            if between in reached[name]:
                reached[name] |= reached[between]
    groups = {
        tuple(sorted(other for other in modules if other in reached[name] and name in reached[other]))
        for name in modules
    }
    return sorted(list(group) for group in groups if group)


def test_no_module_imports_itself_through_others():
    assert cycles() == []


@pytest.mark.parametrize("file", FILES)
def test_backends_are_imported_only_in_the_files_that_are_for_it(file):
    allowed = {name for user, name in BACKEND_USERS.items() if file.startswith(user)}
    used = {name.partition(".")[0] for name in imports(file)} & BACKENDS
    assert used <= allowed


def test_importing_the_package_imports_no_framework(run_python):
    loaded = run_python("import sys, tfdisent; print(*sys.modules)").split()
    assert not (BACKENDS | {"keras", "numpy"}) & set(loaded)


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")
def test_everything_but_data_and_export_runs_without_tensorflow(run_python):
    free = [
        module_name(file)
        for file in FILES
        if file.startswith("tfdisent/")
        and not any(file.startswith(user) for user in BACKEND_USERS)
        and not any(within(name, "tfdisent.data") for name in imports(file))
    ]
    code = f"""
import importlib, sys

class NoTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

sys.meta_path.insert(0, NoTensorFlow())
for name in {free}:
    importlib.import_module(name)
print(*sys.modules)
"""
    loaded = run_python(code, {"KERAS_BACKEND": "jax"}).split()
    assert {"tfdisent.systems.drai", "tfdisent.layers", "tfdisent.training"} <= set(loaded)
    assert "tensorflow" not in loaded


@pytest.mark.parametrize("command", commands())
def test_commands_define_their_flags_before_they_import_a_framework(run_python, command):
    loaded = run_python(f"import sys, {command}; print(*sys.modules)").split()
    assert not (BACKENDS | {"keras"}) & set(loaded)


def test_the_package_gives_its_systems_and_modules_by_name():
    for module, *names in tfdisent.SYSTEMS.values():
        for name in names:
            assert getattr(tfdisent, name).__module__ == module
    assert tfdisent.layers.__name__ == "tfdisent.layers"
    assert set(dir(tfdisent)) == set(tfdisent.__all__)


def test_an_unknown_name_is_an_attribute_error_that_tells_the_name():
    with pytest.raises(AttributeError, match="has no attribute 'cyclegan'"):
        tfdisent.cyclegan  # noqa: B018
