"""The settings of a training run, checked before anything is prepared."""

import dataclasses
import pathlib
import shlex
import types
import typing
from collections.abc import Mapping
from typing import Any

from tfdisent import datasets
from tfdisent.experiment import catalogue
from tfdisent.export import check_formats
from tfdisent.training.distribution import Hosts

JUDGES = ("convnet", "inception")
PRECISIONS = ("bfloat16",)
SELECTED = ("last", "best")
# Fields that have another name as flags.
FLAG_NAMES = {"changes": "set"}
# Fields that are no part of a run, which other hosts may continue.
OF_HOSTS = ("coordinator", "num_hosts", "host")


@dataclasses.dataclass(frozen=True)
class Settings:
    """A training run; its fields have the names of the command's flags, and `changes` is --set.

    What can be known to be wrong without looking at data is a ValueError here.

    Attributes:
        system: name of the system.
        model: the system or a method that it is compared with; None for the system.
        dataset: name of the data set; None for the phantom of a first run.
        data_dir: folder of prepared data sets.
        raw_dir: folder or table of the raw data, to prepare them first.
        preset: values of the config to start from.
        steps: training steps in total, over all runs in the same folder; None for those of the preset.
        epochs: passes over the training split in total, in place of steps.
        batch_size: images in a step, over all devices; None for that of the preset.
        extend: go on to another number of steps than the run was planned for where that changes its schedules: from the
            next step on they are those of a training of the new length. Without it this is refused.
        seed: of weights, order, augmentation and noise.
        run_dir: folder of the run; None for runs/<model>-<dataset>-<preset>-seed<seed>.
        export_dir: folder of the exports; None for saved_models/<model>-<dataset>.
        export: whether `train` exports the model.
        export_format: "savedmodel", or "savedmodel,onnx".
        devices: how many of each host, or "all".
        coordinator: "HOST:PORT" at which several hosts meet; None for one host.
        num_hosts: how many hosts train together.
        host: which of them this is, from 0.
        mixed_precision: "bfloat16" to compute the networks in it; None for float32.
        changes: values of config fields; texts become the type of their field.
        data: options of the data set's preparation.
        checkpoint_every: steps between checkpoints.
        sample_every: steps between sample pictures.
        gradient_every: steps between measurements of each loss term's share of the gradient; None for none.
        judge: kind of the classifier behind FID and IS; None for inception with preset paper, else convnet.
        judge_dir: folder of the networks that judge images, to share them among runs on one data set; None for
            <run_dir>/judges.
        num_samples: generated images to measure; None for 5000 with preset paper, else 2000.
        select: the weights that are measured and exported: the "last", or the "best" on the validation split.
    """

    system: str
    model: str | None = None
    dataset: str | None = None
    data_dir: str = "data"
    raw_dir: str | None = None
    preset: str = "quick"
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    extend: bool = False
    seed: int = 0
    run_dir: str | None = None
    export_dir: str | None = None
    export: bool = True
    export_format: str = "savedmodel"
    devices: str | int = "1"
    coordinator: str | None = None
    num_hosts: int = 1
    host: int = 0
    mixed_precision: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    checkpoint_every: int = 500
    sample_every: int = 500
    gradient_every: int | None = None
    judge: str | None = None
    judge_dir: str | None = None
    num_samples: int | None = None
    select: str = "last"

    def __post_init__(self):
        default = catalogue.DATA[catalogue.check_system(self.system)][0]
        self._check_plain_values()
        object.__setattr__(self, "model", self.model or self.system)
        object.__setattr__(self, "dataset", self.dataset or default)
        typed = typed_changes(self.method.model.config_class, self.changes)
        for field in typed.keys() & self.method.changes.keys():
            raise ValueError(
                f"--model={self.model} is {self.method.title} by {field}={self.method.changes[field]}: leave out "
                f"--set={field}=..., or give another --model."
            )
        object.__setattr__(self, "changes", typed)
        datasets.make_builder(self.dataset, self.preparation)  # checks the config, and the data set's name and options
        self.hosts.check(self.provisional_config.batch_size)

    def _check_plain_values(self):
        if self.steps and self.epochs:
            raise ValueError("Give --steps or --epochs, not both.")
        for name in ("steps", "epochs", "batch_size", "checkpoint_every", "sample_every", "gradient_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Expected --{name} of 1 or more, received {value}.")
        if self.num_samples is not None and self.num_samples < 2:
            raise ValueError(f"Expected --num_samples of 2 or more, received {self.num_samples}.")
        if self.export:
            check_formats(self.export_formats)  # what cannot be written is an error before hours of work
        for name, choices in (("judge", JUDGES), ("mixed_precision", PRECISIONS), ("select", SELECTED)):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ValueError(f"Expected --{name} of {', '.join(choices)}; received {value!r}.")

    @property
    def method(self):
        """The `tfdisent.baselines.method.Method` that is trained."""
        return catalogue.method(self.system, self.model)

    def config(self, **fields: Any):
        """The model's config: that of the preset, with what makes it this method, the changes, and `fields`."""
        values = {**self.method.changes, **self.changes}
        values |= {name: getattr(self, name) for name in ("batch_size", "steps") if getattr(self, name)}
        return self.method.model.config_class.preset(self.preset, **{**values, **fields})

    @property
    def provisional_config(self):
        """The model's config as long as the data are not known: what depends on them is at its default."""
        config_class = self.method.model.config_class
        return self.config(**{name: getattr(config_class, name) for name in config_class.DATA_DEPENDENT})

    @property
    def preparation(self) -> dict[str, Any]:
        """Options of the data set's preparation, at the config's image size.

        Raises:
            ValueError: a size is given apart from the config's.
        """
        config = self.provisional_config
        options = config.preparation(self.dataset, config.image_size)
        if "size" in options.keys() & self.data.keys():
            raise ValueError("The image size is the system's: give --set=image_size=... in place of --data=size=...")
        return {**options, **self.data}

    @property
    def export_formats(self) -> list[str]:
        """What is exported."""
        return self.export_format.split(",")

    @property
    def hosts(self) -> Hosts:
        """This host among those that train together."""
        return Hosts(self.coordinator, self.num_hosts, self.host)

    @property
    def folder(self) -> pathlib.Path:
        """Folder of the run."""
        default = f"runs/{self.model}-{self.dataset}-{self.preset}-seed{self.seed}"
        return pathlib.Path(self.run_dir or default).expanduser()

    @property
    def export_folder(self) -> pathlib.Path:
        """Folder of the exports, one for each version."""
        return pathlib.Path(self.export_dir or f"saved_models/{self.model}-{self.dataset}").expanduser()


def flags_of(settings: Settings, defaults: bool = False) -> list[str]:
    """The flags of `tfdisent train <system>` that give these settings.

    Args:
        settings: of the run.
        defaults: whether flags at their defaults are listed too.
    """
    flags = []
    for field in dataclasses.fields(settings):
        name, value = FLAG_NAMES.get(field.name, field.name), getattr(settings, field.name)
        is_default = value == (settings.system if name == "model" else field.default)
        if name in ("system", *OF_HOSTS) or value is None or (is_default and not defaults):
            continue
        if isinstance(value, Mapping):
            flags += [f"--{name}={key}={text_of(one)}" for key, one in value.items()]
        elif isinstance(value, bool):
            flags.append(f"--{'' if value else 'no'}{name}")
        else:
            flags.append(f"--{name}={value}")
    return flags


def command_of(settings: Settings) -> str:
    """The command that starts or continues the run."""
    return shlex.join(["tfdisent", "train", settings.system, *flags_of(settings)])


def text_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple | list):
        return ",".join(map(text_of, value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def typed_changes(config_class: type, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values of config fields, with texts turned into their fields' types.

    Raises:
        ValueError: an unknown field (the known ones are listed), or a text of another type.
    """
    fields = {field.name: field.type for field in dataclasses.fields(config_class)}
    for name in changes:
        if name not in fields:
            raise ValueError(
                f"Expected --set=field=value with a field of {', '.join(fields)}; received "
                f"{f'{name}={changes[name]}'!r}."
            )
    return {
        name: _parsed(name, value, fields[name]) if isinstance(value, str) else value for name, value in changes.items()
    }


def _parsed(name: str, text: str, kind: Any) -> Any:
    kinds = kind.__args__ if isinstance(kind, types.UnionType) else (kind,)
    for one in kinds:
        try:
            return _typed(text, one)
        except (KeyError, ValueError):
            continue
    names = " or ".join("None" if one is types.NoneType else _type_name(one) for one in kinds)
    raise ValueError(f"Expected {name} to be of type {names}, received {text!r}.")


def _typed(text: str, kind: Any) -> Any:
    if kind is bool or kind is types.NoneType:
        return ({"none": None} if kind is types.NoneType else {"true": True, "false": False})[text.lower()]
    if typing.get_origin(kind) is tuple:
        return tuple(_typed(part.strip(), kind.__args__[0]) for part in text.split(","))
    return kind(text)


def _type_name(kind: Any) -> str:
    return str(kind) if typing.get_origin(kind) else kind.__name__
