"""What papers compare, by name: each module of baselines ends with its `METHODS`, of which the first is the system."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tfdisent.training.system import System


class Method(NamedTuple):
    """A system, what it is compared with, or the system without some of its terms.

    Attributes:
        name: on the command line, and of folders.
        title: in print.
        model: the class; `model.config_class` is that of its settings.
        changes: values of config fields that make the class this method.
    """

    name: str
    title: str
    model: type[System]
    changes: dict[str, Any]


def method(methods: Sequence[Method], name: str) -> Method:
    """The method of this name. Raises ValueError that lists the names there are."""
    found = {known.name: known for known in methods}
    if name not in found:
        raise ValueError(f"Expected a model among {', '.join(found)}; received --model={name}.")
    return found[name]
