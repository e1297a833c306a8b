"""What one record holds, and the manifest that describes a prepared folder.

A record is a standard `tf.train.Example`: one slice, or one set of aligned slices, with all that is needed to put it
back into its volume. The manifest, `manifest.json`, fixes which features there are and of which shape:

    image         (H, W, C) raw bytes in the manifest's dtype: uint8, int16, float16 or float32
    available     (M,) uint8, 1 where the modality was measured
    modality      () int64, index into `modalities`; of a stack of modalities the first one's
    slice_index, num_slices   () int64
    spacing       (3,) float32, millimetres along y, x and across slices; 0 where unknown
    intensity     (C, 8) float32, the volume's `INTENSITY` statistics; if not given, the image's
    key, subject  () string; `key` is unique, `subject` is what splits are made by
    mask          (H, W, mask_channels) uint8, indices into `mask_labels`, when there are any
    condition     (K,) float32, when there are `condition_names`
    label         () int64, index into `labels`, when there are any
    domain        () int64, index into `domains` (scanner, site), when there are any
    factors       (F,) float32, known generative factors, when there are `factor_names`

and whatever the data set declares in `extra_features`.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfdisent.data.validation import check_manifest
from tfdisent.intensity import INTENSITY, intensity_statistics

IMAGE_DTYPES = ("uint8", "int16", "float16", "float32")
FORMAT = 2  # of manifest and records; 1 rounded what is not whole to float16
# How tf.train.Example holds a feature: numbers and tables of these as lists, strings as they are, all others as raw
# bytes.
_LISTS = {"float32": "float_list", "int64": "int64_list", "string": "bytes_list"}


class Feature(NamedTuple):
    """Shape and dtype (uint8, int16, float16, float32, int64 or string) of one feature of a record."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_raw(self) -> bool:
        """Whether the array is stored as its bytes (little endian, C order); images are, of any dtype."""
        return self.dtype not in _LISTS or len(self.shape) > 2


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything about a prepared folder that is not in its shards.

    `splits` maps a split's name to {"subjects": [...], "num_examples": int, "label_counts": {label: int}, "shards":
    [{"name", "num_examples", "bytes", "sha256"}, ...]}. `skipped` lists what was left out, each as {"split", "key",
    "reason"}. `source` is the fingerprint of the raw data.
    """

    dataset: str
    version: str
    image_shape: tuple[int, int, int]
    image_dtype: str = "uint8"
    modalities: tuple[str, ...] = ("image",)
    labels: tuple[str, ...] = ()
    condition_names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    mask_labels: tuple[str, ...] = ()
    mask_channels: int = 1
    extra_features: dict[str, Feature] = dataclasses.field(default_factory=dict)
    description: str = ""
    homepage: str = ""
    citation: str = ""
    licence: str = ""
    seed: int = 0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    splits: dict[str, dict] = dataclasses.field(default_factory=dict)
    skipped: tuple[dict, ...] = ()

    def __post_init__(self):
        if self.image_dtype not in IMAGE_DTYPES:
            raise ValueError(
                f"{self.dataset}: images are stored as one of {', '.join(IMAGE_DTYPES)}, received "
                f"image_dtype={self.image_dtype!r}. Convert them: float32 holds seven digits."
            )
        if len(self.image_shape) != 3:
            raise ValueError(f"{self.dataset}: expected image_shape to be (H, W, C), received {self.image_shape}.")

    @property
    def features(self) -> dict[str, Feature]:
        """Every feature of a record by name, in the order of the names."""
        height, width, channels = self.image_shape
        found = {
            "image": Feature((height, width, channels), self.image_dtype),
            "available": Feature((len(self.modalities),), "uint8"),
            "modality": Feature((), "int64"),
            "slice_index": Feature((), "int64"),
            "num_slices": Feature((), "int64"),
            "spacing": Feature((3,), "float32"),
            "intensity": Feature((channels, len(INTENSITY)), "float32"),
            "key": Feature((), "string"),
            "subject": Feature((), "string"),
            **self.extra_features,
        }
        if self.mask_labels:
            found["mask"] = Feature((height, width, self.mask_channels), "uint8")
        if self.condition_names:
            found["condition"] = Feature((len(self.condition_names),), "float32")
        if self.labels:
            found["label"] = Feature((), "int64")
        if self.domains:
            found["domain"] = Feature((), "int64")
        if self.factor_names:
            found["factors"] = Feature((len(self.factor_names),), "float32")
        return dict(sorted(found.items()))

    def split(self, name: str) -> dict:
        """The entry of one split. Raises ValueError that lists the splits there are."""
        if name not in self.splits:
            raise ValueError(
                f"{self.dataset} {self.version} has no split {name!r}. Its splits are: "
                f"{', '.join(sorted(self.splits)) or 'none'}."
            )
        return self.splits[name]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def read(cls, directory: str | pathlib.Path) -> "Manifest":
        """Reads `manifest.json` of a prepared folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is of another format, or holds what a manifest cannot; the field is named.
        """
        path = pathlib.Path(directory) / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"No manifest.json in {path.parent}: it is not a prepared data set, or its preparation did not end. "
                "Prepare it with `python -m datasets.build`."
            )
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            found = entries.pop("format", None) if isinstance(entries, dict) else None
            if found != FORMAT:
                raise ValueError(f"its format is {found!r}, this version of tfdisent reads {FORMAT}")
            check_manifest(entries, [field.name for field in dataclasses.fields(cls)], (*IMAGE_DTYPES, *_LISTS))
            entries = {name: tuple(value) if type(value) is list else value for name, value in entries.items()}
            entries["extra_features"] = {
                name: Feature(tuple(shape), dtype) for name, (shape, dtype) in entries["extra_features"].items()
            }
            return cls(**entries)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a valid manifest: {error}. Delete the folder and prepare the data set again."
            ) from error


def complete(example: Mapping[str, Any], manifest: Manifest) -> dict[str, np.ndarray | bytes]:
    """Fills in defaults, turns names into indices, and checks shapes, dtypes and values.

    Args:
        example: features by name. Needs `image`, `key`, `subject`; `label` and `domain` when the manifest has any, as a
            name or an index. `condition` may be left out where it is the one-hot label.
        manifest: what the record must look like.

    Returns:
        Every feature of the manifest as an array of its dtype, strings as bytes.

    Raises:
        ValueError: a feature is missing, unknown, of another shape or dtype, not finite, or out of range.
    """
    example = dict(example)
    for name, names in (
        ("label", manifest.labels),
        ("domain", manifest.domains),
        ("modality", manifest.modalities),
    ):
        if isinstance(example.get(name), str):
            if example[name] not in names:
                raise ValueError(f"unknown {name} {example[name]!r}, expected one of {', '.join(names)}")
            example[name] = names.index(example[name])
    if "condition" not in example and "label" in example and manifest.condition_names == manifest.labels:
        example["condition"] = np.eye(len(manifest.labels), dtype=np.float32)[example["label"]]
    if "image" in example and "intensity" not in example:
        with np.errstate(invalid="ignore"):  # an image that is not finite is refused below
            example["intensity"] = intensity_statistics(np.atleast_3d(example["image"]))
    defaults = {
        "available": np.ones(len(manifest.modalities), np.uint8),
        "modality": 0,
        "slice_index": 0,
        "num_slices": 1,
        "spacing": np.zeros(3, np.float32),
    }
    example = {**defaults, **example}

    features = manifest.features
    if missing := sorted(features.keys() - example.keys()):
        raise ValueError(f"the example lacks {', '.join(missing)}")
    if unknown := sorted(example.keys() - features.keys()):
        raise ValueError(f"the example has {', '.join(unknown)}, which the manifest does not declare")
    completed = {name: _checked(name, example[name], feature) for name, feature in features.items()}
    for name, names in (
        ("label", manifest.labels),
        ("domain", manifest.domains),
        ("modality", manifest.modalities),
        ("mask", manifest.mask_labels),
    ):
        if names and not (0 <= completed[name].min() and completed[name].max() < len(names)):
            raise ValueError(
                f"{name} holds {completed[name].max()}, expected 0 to {len(names) - 1} ({', '.join(names)})"
            )
    return completed


def _checked(name: str, value: Any, feature: Feature) -> np.ndarray | bytes:
    if feature.dtype == "string":
        return str(value).encode()
    array = np.asarray(value)
    if array.shape != feature.shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {feature.shape}")
    if feature.is_raw and array.dtype != feature.dtype:
        raise ValueError(f"{name} has dtype {array.dtype}, expected {feature.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are not finite")
    return array.astype(feature.dtype)


def encode(example: Mapping[str, Any], manifest: Manifest) -> bytes:
    """One example as the bytes of a record; see `complete` for what it must hold and the errors."""
    message = tf.train.Example()
    features = manifest.features
    for name, value in complete(example, manifest).items():
        feature = message.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif features[name].is_raw:
            feature.bytes_list.value.append(value.tobytes())
        else:
            getattr(feature, _LISTS[features[name].dtype]).value.extend(value.ravel().tolist())
    return message.SerializeToString(deterministic=True)


def check_record(record: bytes, manifest: Manifest) -> None:
    """Checks that a record holds each feature of the manifest in its shape, so that `parse` can read it.

    Raises:
        ValueError: it does not; the feature is named.
    """
    try:
        found = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError("it holds no tf.train.Example") from error
    for name, feature in manifest.features.items():
        count, kind = math.prod(feature.shape), "bytes_list" if feature.is_raw else _LISTS[feature.dtype]
        values = getattr(found[name], kind).value if name in found else ()
        size = np.dtype(feature.dtype).itemsize * count if feature.is_raw else count
        held = sum(map(len, values)) if feature.is_raw else len(values)
        if held != size:
            raise ValueError(
                f"{name} is of {held} {'bytes' if feature.is_raw else 'values'}, expected {size} for {feature.dtype} "
                f"{feature.shape}"
            )


def parse(records: tf.Tensor, manifest: Manifest, names: Collection[str] | None = None) -> dict[str, tf.Tensor]:
    """The features of a batch of records (B,), or some of them, each as a tensor (B, ...) of its stored dtype."""
    features, records = manifest.features, tf.convert_to_tensor(records)
    features = {name: feature for name, feature in features.items() if names is None or name in names}
    num = -1 if records.shape[0] is None else records.shape[0]
    parsed = tf.io.parse_example(
        records,
        {
            name: tf.io.FixedLenFeature((), tf.string)
            if feature.is_raw
            else tf.io.FixedLenFeature(feature.shape, feature.dtype)
            for name, feature in features.items()
        },
    )
    for name, feature in features.items():
        if feature.is_raw:
            parsed[name] = tf.reshape(tf.io.decode_raw(parsed[name], feature.dtype), (num, *feature.shape))
    return parsed
