"""A trained system as a SavedModel, which TF Serving, OpenVINO and `tf.saved_model.load` read.

    saved_models/drai-skin_phantom/1/
        saved_model.pb  variables/  fingerprint.pb   signatures with named float32 tensors
        assets.extra/tf_serving_warmup_requests      what TF Serving runs before its first answer
        README.md  card.json                         the model card, for people and for programs
        onnx/generate.onnx ...                       where it is asked for, each signature for ONNX Runtime

The model is always written by TensorFlow, from a new float32 model that takes over the weights, so that the result does
not depend on the backend nor on the precision of training. Under another backend a separate process writes it.
"""

import contextlib
import datetime
import importlib.util
import json
import os
import pathlib
import pkgutil
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from tfdisent._version import __version__
from tfdisent.privacy import publishable

# Keras and TensorFlow are imported where they are used, so that importing this module is quick.

WEIGHTS = "weights.npz"
SEGMENTOR = "segmentor"
WARMUP = "assets.extra/tf_serving_warmup_requests"
WARMUP_BATCHES = (1, 8)
FORMATS = ("savedmodel", "onnx")
ONNX_OPSET = 17  # of 2022, which ONNX Runtime reads since 1.12
CARD_TEXTS = ("title", "summary", "limits", "licence", "citation")
CARD_TABLES = ("values", "data", "training", "metrics", "familiar")
# What tensors hold, by the names that all systems use; a card's "values" adds to them or replaces them.
VALUES = {
    "image": "intensity in [-1, 1]",
    "content_image": "intensity in [-1, 1]; the content is taken from it",
    "style_image": "intensity in [-1, 1]; the style is taken from it",
    "condition": "one-hot class or attributes, as in training",
    "content": "code of what the condition describes; posterior mean of an image",
    "style": "code of the rest; N(0, 1) where it is drawn, posterior mean of an image",
    "target": "the modality wanted, one-hot",
    "content_noise": "N(0, 1); 0 gives the condition's mean content",
}


def export(
    model,
    directory: str | os.PathLike,
    *,
    card: dict,
    version: int | None = None,
    formats: Sequence[str] = ("savedmodel",),
) -> pathlib.Path:
    """Writes `<directory>/<version>/`, whole or not at all.

    Averaged weights are written where the model keeps them (`model.averaged()`). The networks are built anew under the
    float32 policy and given the same weights: a model trained in mixed precision is exported, and served, in float32.
    Noise is an input of the signatures, so that the same request always has the same answer.

    Args:
        model: a built system. `model.signatures()` says what is exported, the first also as `serving_default`. A model
            of volumes' slices has a method `volume_io()` too, whose `inputs` and `outputs` go into the card: {"inputs":
            [names], "outputs": {name: {"kind": "image" or "labels", "names": [...]}}}, as `tfdisent.apply` reads them.
            Where it has a segmentor `downstream`, with `label_names` (see `Margin.segment_with`), that is exported too.
        directory: folder of all versions of this model, named as it will be served, such as
            `saved_models/drai-skin_phantom`.
        card: what the model card says; any of `title`, `summary`, `limits`, `licence` and `citation` (text), `values`
            ({tensor: what it holds}), `data` and `training` (plain dicts, may be nested), `metrics` ({name: {value,
            std, n, extractor, protocol}}, as in `metrics.json`) and `familiar` (by which `tfdisent.apply` knows scans
            that are unlike the training's, see `tfdisent.familiarity`). Absolute paths and lists of subjects are left
            out.
        version: of the export; by default one more than the highest there.
        formats: of `FORMATS`; "savedmodel" is among them. "onnx" adds a file for each signature.

    Returns:
        The folder of the version.

    Raises:
        ValueError: the card has an unknown key, the version exists already, or a format is unknown.
        ImportError: a format takes packages that are not installed, naming them.
        OSError: it cannot be written; nothing is left behind.
    """
    import keras
    import numpy as np

    directory = pathlib.Path(directory)
    known = {**dict.fromkeys(CARD_TEXTS, str), **dict.fromkeys(CARD_TABLES, Mapping)}
    for key, value in card.items():
        if key not in known:
            raise ValueError(f"Expected card keys among {', '.join(known)}; received {key!r}.")
        if not isinstance(value, known[key]):
            expected = "text" if known[key] is str else "a dict"
            raise ValueError(f"Expected card[{key!r}] to be {expected}, received {value!r}.")
    check_formats(formats)
    version = _free_version(directory) if version is None else version
    target = directory / str(version)
    if version < 1 or target.exists():
        raise ValueError(f"Expected a version from 1 that {directory} does not have yet, received {version}.")
    request = {
        "config": model.get_config(),
        "name": directory.resolve().name,
        "version": version,
        "backend": keras.backend.backend(),
        "formats": list(formats),
        "card": publishable(card),
    }
    segmentor = getattr(model, "downstream", None)
    if segmentor is not None:
        request["segmentor"] = {"class": _name(type(segmentor)), "labels": list(model.label_names)}

    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=directory) as folder:
            folder = pathlib.Path(folder)
            (folder / "request.json").write_text(json.dumps(request))
            if hasattr(model, "jax_state_sync"):
                model.jax_state_sync()
            if segmentor is not None:
                segmentor.save(folder / SEGMENTOR)
            with model.averaged():
                # NumPy's format, as HDF5 crashes the process when the disk is full.
                np.savez(folder / WEIGHTS, *(_float32(weight) for weight in model.weights))
            if keras.backend.backend() == "tensorflow":
                _write(type(model), folder)
            else:
                _write_in_tensorflow_process(type(model), folder)
            # Only its owner may read the temporary folder; the one inside has the usual mode.
            (folder / "model").rename(target)
    except OSError as error:
        raise OSError(f"Could not export version {version} to {directory}: {error}. Nothing was left there.") from error
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                directory.rmdir()  # succeeds where it is still empty
    return target


def check_formats(formats: Sequence[str]) -> None:
    """Raises ValueError for formats that are none, and ImportError for one whose packages are not installed."""
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise ValueError(f"Expected export formats among {', '.join(FORMATS)}; received {', '.join(unknown)}.")
    if "savedmodel" not in formats:
        raise ValueError(f"Expected savedmodel among the export formats, which holds the card; received {formats}.")
    lacking = [name for name in ("tf2onnx", "onnx") if "onnx" in formats and not importlib.util.find_spec(name)]
    if lacking:
        raise ImportError(
            f"The export format onnx takes {' and '.join(lacking)}, which are not installed: pip install "
            "'tfdisent[onnx]', or 'tf2onnx>=1.17'."
        )


def _free_version(directory: pathlib.Path) -> int:
    names = [path.name for path in directory.glob("*")]
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def _name(system: type) -> str:
    return f"{system.__module__}:{system.__qualname__}"  # as pkgutil.resolve_name reads it


def _float32(weight):
    from keras import ops

    return ops.convert_to_numpy(ops.cast(weight, "float32"))


def _write_in_tensorflow_process(system: type, folder: pathlib.Path) -> None:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",  # this process may hold all of the GPU's memory
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    command = [sys.executable, "-m", "tfdisent.export", _name(system), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ChildProcessError(f"the TensorFlow process that writes it stopped with {reason!r}")


def _write(system: type, folder: pathlib.Path) -> None:
    """Writes `folder/model` from the request and the weights in `folder`."""
    import keras
    import numpy as np
    import tensorflow as tf

    request = json.loads((folder / "request.json").read_text())
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        model = system.from_config(request["config"])
    finally:
        keras.config.set_dtype_policy(policy)
    with np.load(folder / WEIGHTS) as weights:
        model.set_weights([weights[key] for key in weights.files])
    if segmentor := request.get("segmentor"):
        saved = pkgutil.resolve_name(segmentor["class"]).load(folder / SEGMENTOR)
        model.segment_with(saved, segmentor["labels"])

    # The archive tracks nothing, so it takes the variables that the signatures use and no others.
    archive = keras.export.ExportArchive()
    signatures = {}
    for name, (function, shapes) in model.signatures().items():
        specs = [keras.InputSpec(shape=shape, dtype="float32", name=key) for key, shape in shapes.items()]
        endpoint = archive.add_endpoint(name, function, specs)
        outputs = endpoint.get_concrete_function().structured_outputs
        signatures[name] = {
            "inputs": {key: list(shape) for key, shape in shapes.items()},
            "outputs": {key: outputs[key].shape.as_list() for key in sorted(outputs)},
        }
    try:
        archive.write_out(folder / "model", verbose=False)
        _write_warmup(folder / "model" / WARMUP, request["name"], signatures)
        if "onnx" in request["formats"]:
            _write_onnx(folder / "model" / "onnx", model, signatures)
    except tf.errors.OpError as error:  # TensorFlow's errors of the file system are not OSErrors
        raise OSError(error.message) from error

    card = {
        **request["card"],
        "name": request["name"],
        "version": request["version"],
        "system": system.__module__.rpartition(".")[2],
        "signatures": signatures,
        **(model.volume_io() if hasattr(model, "volume_io") else {}),
        "formats": request["formats"],
        "config": request["config"].get("config", request["config"]),
        "versions": {
            "tfdisent": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
            "trained_on": request["backend"],
            "exported": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
    }
    card.setdefault("title", f"{card['name']}, version {card['version']}")
    card.setdefault("summary", sys.modules[system.__module__].__doc__.partition("\n")[0])
    card["values"] = {**VALUES, **card.get("values", {})}
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    (folder / "model" / "card.json").write_text(text, "utf-8")
    (folder / "model" / "README.md").write_text(_readme(card), "utf-8")


# --- ONNX ---


def _write_onnx(folder: pathlib.Path, model, described: dict) -> None:
    """Writes `<signature>.onnx` for each signature; inputs and outputs are called as the card has `described` them.

    All names in a graph differ: an output that is called as an input gets the ending `_out`.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    folder.mkdir()
    for signature, (function, shapes) in model.signatures().items():
        specs = [tf.TensorSpec(shape, tf.float32, name=f"given_{key}") for key, shape in shapes.items()]
        outputs = list(described[signature]["outputs"])

        def ordered(*values, function=function, keys=tuple(shapes), outputs=tuple(outputs)):
            found = function(**dict(zip(keys, values, strict=True)))
            return [found[key] for key in outputs]

        traced = tf.function(ordered, input_signature=specs, autograph=False)
        converted, _ = tf2onnx.convert.from_function(traced, input_signature=specs, opset=ONNX_OPSET)
        graph = converted.graph
        names = {value.name: value.name.removeprefix("given_") for value in graph.input}
        names |= {
            value.name: f"{key}_out" if key in shapes else key for value, key in zip(graph.output, outputs, strict=True)
        }
        for value in (*graph.input, *graph.output):
            value.name = names[value.name]
        for node in graph.node:
            for ends in (node.input, node.output):
                ends[:] = [names.get(name, name) for name in ends]
        onnx.checker.check_model(converted)
        (folder / f"{signature}.onnx").write_bytes(converted.SerializeToString())


# --- warm-up requests ---


def _write_warmup(path: pathlib.Path, model_name: str, signatures: dict) -> None:
    """Writes a TFRecord of PredictionLog messages with inputs of zeros: one for each signature and batch size."""
    import tensorflow as tf

    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, tensors in signatures.items():
            for batch in WARMUP_BATCHES:
                inputs = {
                    # One zero stands for all of them, which keeps the message small.
                    key: tf.make_tensor_proto(0.0, shape=[batch, *shape[1:]]).SerializeToString()
                    for key, shape in tensors["inputs"].items()
                }
                writer.write(_prediction_log(model_name, signature, inputs))


def _prediction_log(model_name: str, signature: str, inputs: dict[str, bytes]) -> bytes:
    """PredictionLog{predict_log{request{model_spec{name, signature_name}, inputs}}} as bytes.

    The messages are defined in tensorflow_serving/apis/{prediction_log,predict,model}.proto. Their package requires one
    version of TensorFlow; all fields used here are texts or messages, which protobuf writes as key, length, content.
    """
    model_spec = _field(1, model_name.encode()) + _field(3, signature.encode())
    entries = (_field(1, key.encode()) + _field(2, tensor) for key, tensor in inputs.items())
    request = _field(1, model_spec) + b"".join(_field(2, entry) for entry in entries)
    return _field(6, _field(1, request))


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, lowest first; the top bit says that more follow."""
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


# --- model card ---


def _readme(card: dict) -> str:
    signatures = list(card["signatures"])
    default, last = signatures[0], signatures[-1]
    name, path = card["name"], f"{card['name']}/{card['version']}"
    shapes = card["signatures"][default]["inputs"]
    sections = {
        "Intended use and limits": f"""
For research. Not a medical device: its images and codes must not be used for diagnosis, treatment
or any decision about a patient. It knows no more than its training data show (below), and how it
performs on other data is not known.

{card.get("limits", "")}""",
        "Signatures": f"""
All tensors are float32; B is the batch, of any size. `{default}` is also `serving_default`. Nothing
is drawn at random inside: the same inputs give the same outputs.

{_table(("signature", "tensor", "shape", "values"), _signature_rows(card))}""",
        "Training data": _table(("", ""), _flat(card.get("data", {}))),
        "Training": _table(("", ""), _flat(card.get("training", {}))),
        "Metrics": _table(("metric", "value", "std", "n", "features", "protocol"), _metric_rows(card)),
        "Use in Python": f"""
Needs TensorFlow and nothing else; run it in the folder that holds `{name}`.

```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("{path}")
shapes = {json.dumps({key: shape[1:] for key, shape in shapes.items()})}
inputs = {{key: np.zeros([1, *shape], "float32") for key, shape in shapes.items()}}
outputs = model.signatures["{default}"](**{{key: tf.constant(x) for key, x in inputs.items()}})
```""",
        "Use on volumes": f"""
```sh
tfdisent apply --model={path} --input=FILE --output=results
```

runs `{default}` over NIfTI volumes, slice by slice; `tfdisent apply --help` says more. A model of
several inputs is given each as `--input=NAME=FILE`.

{_table(("", "name", "kind", "names"), _volume_rows(card))}""",
        "Use with TF Serving": f"""
```sh
docker run -p 8501:8501 -v "$PWD/{name}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
```

Then over REST, with `inputs` as above:

```py
import json
import urllib.request

columns = {{key: x.tolist() for key, x in inputs.items()}}
body = json.dumps({{"signature_name": "{default}", "inputs": columns}}).encode()
answer = urllib.request.urlopen("http://localhost:8501/v1/models/{name}:predict", body)
outputs = json.load(answer)["outputs"]
```""",
        "Use with OpenVINO": f"""
`openvino.convert_model("{path}")` reads `{default}` and needs no TensorFlow. The
other signatures are converted from `model`, loaded as above; `read_model` on the folder sees
`{default}` alone too. Where the processor has bfloat16, OpenVINO computes in it unless it is told
not to.

```py
import openvino

{last} = openvino.convert_model(model.signatures["{last}"])
{last} = openvino.compile_model({last}, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
```""",
        "Use with ONNX Runtime": f"""
```py
import onnxruntime

{last} = onnxruntime.InferenceSession("{path}/onnx/{last}.onnx", providers=["CPUExecutionProvider"])
names = [output.name for output in {last}.get_outputs()]
```

Each signature is a file of its own, with the tensors above; an output that is called as an input
has the ending `_out`.""",
        "Config": f"```json\n{json.dumps(card['config'], indent=1)}\n```",
        "Versions": _table(("", ""), _flat(card["versions"])),
        "Licence": card.get("licence", "Not stated. The licence of the training data may apply to the weights."),
        "Citation": card.get("citation", "Not stated."),
    }
    if "onnx" not in card.get("formats", ()):
        del sections["Use with ONNX Runtime"]
    if "inputs" not in card:
        del sections["Use on volumes"]
    texts = [f"# {card['title']}", card["summary"]]
    texts += [f"## {heading}\n\n{text.strip()}" for heading, text in sections.items()]
    return "\n\n".join(texts) + "\n"


def _signature_rows(card: dict) -> Iterator[tuple]:
    for name, tensors in card["signatures"].items():
        for direction in ("inputs", "outputs"):
            for key, shape in tensors[direction].items():
                shape = "(" + ", ".join(["B", *map(str, shape[1:])]) + ")"
                yield f"`{name}` {direction[:-1]}", f"`{key}`", shape, card["values"].get(key, "")


def _volume_rows(card: dict) -> Iterator[tuple]:
    for name in card.get("inputs", ()):
        yield "input", f"`{name}`", "image", ""
    for name, output in card.get("outputs", {}).items():
        yield "output", f"`{name}`", output["kind"], ", ".join(output["names"])


def _metric_rows(card: dict) -> Iterator[tuple]:
    for name, metric in card.get("metrics", {}).items():
        metric = metric if isinstance(metric, Mapping) else {"value": metric}
        yield name, *(metric.get(key) for key in ("value", "std", "n", "extractor", "protocol"))


def _flat(values: Mapping, prefix: str = "") -> Iterator[tuple]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} / ")
        else:
            yield prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else value


def _table(header: tuple, rows: Iterator[tuple]) -> str:
    lines = [_row(row) for row in rows]
    return "\n".join([_row(header), _row(["---"] * len(header)), *lines]) if lines else "Not stated."


def _row(cells) -> str:
    texts = ("" if cell is None else f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in cells)
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


if __name__ == "__main__":  # the process that `export` starts under other backends
    _write(pkgutil.resolve_name(sys.argv[1]), pathlib.Path(sys.argv[2]))
