"""Exports, read back by everything but the code that wrote them."""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.tiny import TWO_MODALITIES
from tfdisent import export as exporting
from tfdisent.export import export
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.systems.unified import Unified, UnifiedConfig

CONFIG = dict(
    image_size=16,
    num_conditions=3,
    content_dim=6,
    style_dim=4,
    generator_filters=4,
    encoder_filters=4,
    discriminator_filters=4,
    condition_units=4,
    code_units=4,
    joint_units=4,
    regressor_units=4,
)
CARD = {
    "title": "DRAI on skin phantoms",
    "limits": "Trained on drawings.",
    "licence": "Apache-2.0",
    "citation": "Havaei et al. 2021, https://arxiv.org/abs/2012.04764",
    "values": {"condition": "one-hot of bkl, mel, nv"},
    "data": {
        "dataset": "skin_phantom",
        "splits": {"train": {"subjects": ["Jane Doe", "John Doe"], "num_examples": 240}},
    },
    "training": {"command": "python -m train.drai --raw_dir=/data/Jane/raw --steps=5", "steps": 5},
    "metrics": {
        "frechet_distance": {"value": 12.5, "std": None, "n": 300, "extractor": "inception"},
        "inception_score": {"value": float("nan"), "std": np.float32(0.5), "n": np.int64(300)},
    },
}
RANDOM = np.random.default_rng(0)
INPUTS = {
    "generate": {
        "condition": np.eye(3, dtype="float32")[[0, 1, 2, 0, 1]],
        "style": RANDOM.normal(size=(5, 4)).astype("float32"),
        "content_noise": RANDOM.normal(size=(5, 6)).astype("float32"),
    },
    "encode": {"image": RANDOM.uniform(-1, 1, (5, 16, 16, 3)).astype("float32")},
    "hybrid": {
        "content_image": RANDOM.uniform(-1, 1, (5, 16, 16, 3)).astype("float32"),
        "style_image": RANDOM.uniform(-1, 1, (5, 16, 16, 3)).astype("float32"),
    },
}
OUTPUTS = {"generate": {"image"}, "encode": {"content", "style"}, "hybrid": {"image"}}


@pytest.fixture(scope="module")
def model():
    """A model whose weights matter, with averages and batch statistics of their own."""
    model = DRAI(DRAIConfig(**CONFIG))
    random = np.random.default_rng(1)
    for variable in model.variables:
        if "float" in variable.dtype:
            noise = 0.3 * random.normal(size=variable.shape)
            variable.assign(np.abs(noise) + 0.5 if "variance" in variable.name else noise)
    return model


@pytest.fixture(scope="module")
def expected(model):
    """{signature: {output: array}} of the Keras model with its averaged weights."""
    with model.averaged():
        return {
            name: {key: keras.ops.convert_to_numpy(value) for key, value in function(**INPUTS[name]).items()}
            for name, (function, _) in model.signatures().items()
        }


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("models") / "drai-skin_phantom", card=CARD)


@pytest.fixture
def quick_write(monkeypatch):
    """Leaves TensorFlow out: `export` writes one small file."""

    def write(system, folder):
        (folder / "model").mkdir()
        (folder / "model" / "saved_model.pb").write_bytes(b"x")

    monkeypatch.setattr(exporting, "_write", write)
    monkeypatch.setattr(exporting, "_write_in_tensorflow_process", write)


def assert_close(outputs, expected, tolerance):
    """Both are {signature: {output: array}}; expected arrays must vary, or this says nothing."""
    assert {name: set(values) for name, values in outputs.items()} == OUTPUTS
    for name, values in expected.items():
        for key, array in values.items():
            assert array.std() > 0.05
            np.testing.assert_allclose(outputs[name][key], array, rtol=0, atol=tolerance)


def first(arrays, count):
    """The first examples of {signature: {name: array}}."""
    return {name: {key: array[:count] for key, array in values.items()} for name, values in arrays.items()}


def run_signatures(folder):
    """The exported signatures, by TensorFlow in this process."""
    import tensorflow as tf

    signatures = tf.saved_model.load(folder).signatures
    return {
        name: {
            key: value.numpy()
            for key, value in signatures[name](**{key: tf.constant(array) for key, array in arrays.items()}).items()
        }
        for name, arrays in INPUTS.items()
    }


# --- other readers ---


def read_elsewhere(folder, compute, afterwards=""):
    """What `compute(name, inputs)` gives for every signature in a process with nothing of this repository, by
    "count/signature/output", and what that process printed.
    """
    arrays = {f"{name}/{key}": a for name, values in INPUTS.items() for key, a in values.items()}
    np.savez(folder / "inputs.npz", **arrays)
    code = f"""
import runpy, sys
import numpy as np
import tensorflow as tf
arrays = np.load("inputs.npz")
{compute}
results = {{}}
for name in {list(INPUTS)}:
    names = [key.split("/")[1] for key in arrays if key.startswith(name + "/")]
    for count in (1, 5):
        inputs = {{key: arrays[name + "/" + key][:count] for key in names}}
        for key, value in compute(name, inputs).items():
            results[f"{{count}}/{{name}}/{{key}}"] = value
np.savez("outputs.npz", **results)
assert not [name for name in sys.modules if name.startswith("tfdisent")]
{afterwards}
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "outputs.npz"), done.stdout


def of_count(results, count):
    return {name: {key: results[f"{count}/{name}/{key}"] for key in keys} for name, keys in OUTPUTS.items()}


@pytest.fixture(scope="module")
def fresh_process(exported, tmp_path_factory):
    """What TensorFlow alone computes, and what saved_model_cli shows."""
    compute = f"""
signatures = tf.saved_model.load({str(exported)!r}).signatures
def compute(name, inputs):
    return signatures[name](**{{key: tf.constant(array) for key, array in inputs.items()}})
"""
    show = f"""
sys.argv = ["saved_model_cli", "show", "--dir", {str(exported)!r}, "--all"]
runpy.run_module("tensorflow.python.tools.saved_model_cli", run_name="__main__")
"""
    return read_elsewhere(tmp_path_factory.mktemp("fresh"), compute, show)


@pytest.mark.parametrize("count", [1, 5])
def test_a_process_with_tensorflow_alone_gets_the_numbers_of_the_keras_model(fresh_process, expected, count):
    results, _ = fresh_process
    assert_close(of_count(results, count), first(expected, count), 1e-5)


def test_saved_model_cli_lists_the_names(fresh_process):
    shown = fresh_process[1].partition("Concrete Functions:")[0]
    listed = {}
    for line in shown.splitlines():
        if found := re.search(r"signature_def\['(\w+)'\]", line):
            listed[found[1]] = inputs, outputs = set(), set()
        elif found := re.search(r"inputs\['(\w+)'\]", line):
            inputs.add(found[1])
        elif found := re.search(r"outputs\['(\w+)'\]", line):
            outputs.add(found[1])
    del listed["__saved_model_init_op"]
    names = {name: (set(INPUTS[name]), OUTPUTS[name]) for name in INPUTS}
    assert listed == {**names, "serving_default": names["generate"]}


def test_openvino_gets_the_numbers_of_the_keras_model(exported, expected, tmp_path):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    # In a process of its own: after OpenVINO has run, a SIGTERM that Python handles is a crash.
    # The folder stands for the default signature; TensorFlow's model is held for the others, as
    # they do not hold their variables. Without the hint it takes bfloat16 where the processor has
    # it, and differs by some 0.005.
    compute = f"""
import openvino
loaded = tf.saved_model.load({str(exported)!r})
sources = {{"generate": {str(exported)!r}}} | {{
    name: loaded.signatures[name] for name in ("encode", "hybrid")
}}
hints = {{"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}}
compiled = {{
    name: openvino.compile_model(openvino.convert_model(source), "CPU", hints)
    for name, source in sources.items()
}}
def compute(name, inputs):
    return {{key.any_name: array for key, array in compiled[name](inputs).items()}}
"""
    results, _ = read_elsewhere(tmp_path, compute)
    for count in (1, 5):
        assert_close(of_count(results, count), first(expected, count), 1e-4)


onnx_is_there = all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "tf2onnx")))


@pytest.fixture(scope="module")
def of_slices():
    """A model whose input and output have one name, in all that its networks can have."""
    config = UnifiedConfig(**TWO_MODALITIES, level_0=True, merge=True, upsampling="nearest", initializer="he_normal")
    return Unified(config)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not onnx_is_there, reason="onnx, onnxruntime or tf2onnx is not installed")
@pytest.mark.parametrize("which", ["model", "of_slices"])
def test_onnx_runtime_gets_the_numbers_of_the_keras_model_in_batches_of_any_size(which, tmp_path, request):
    import onnxruntime

    model = request.getfixturevalue(which)
    folder = export(model, tmp_path / "m", card={}, formats=("savedmodel", "onnx"))
    signatures = model.signatures()
    assert {path.stem for path in (folder / "onnx").iterdir()} == set(signatures)
    for name, (function, shapes) in signatures.items():
        session = onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        assert {value.name for value in session.get_inputs()} == set(shapes)
        names = [value.name for value in session.get_outputs()]
        for count in (1, 3):
            given = {key: RANDOM.uniform(-1, 1, (count, *shape[1:])).astype("float32") for key, shape in shapes.items()}
            with model.averaged():
                expected = {key: keras.ops.convert_to_numpy(value) for key, value in function(**given).items()}
            found = dict(zip(names, session.run(None, given), strict=True))
            assert found.keys() == {f"{key}_out" if key in shapes else key for key in expected}
            for key, values in expected.items():
                ours = found[f"{key}_out" if key in shapes else key]
                np.testing.assert_allclose(ours, values, rtol=1e-4, atol=1e-4 * np.abs(values).max())
    assert "Use with ONNX Runtime" in (folder / "README.md").read_text()


def test_without_onnx_the_card_does_not_speak_of_it(exported):
    assert "ONNX" not in (exported / "README.md").read_text()
    assert not (exported / "onnx").exists()


@pytest.mark.parametrize(
    "formats, message", [(("savedmodel", "pb"), "among savedmodel, onnx; received pb"), (("onnx",), "savedmodel among")]
)
def test_formats_that_are_none_are_refused_before_anything_is_written(formats, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "m", card={}, formats=formats)
    assert not list(tmp_path.iterdir())


def test_what_onnx_takes_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="takes tf2onnx and onnx, which are not installed: pip install"):
        exporting.check_formats(("savedmodel", "onnx"))


def test_a_models_own_export_says_how_it_is_exported(model, tmp_path):
    with pytest.raises(NotImplementedError, match=r"tfdisent.export.export\(model.*verbs of DRAI"):
        model.export(tmp_path / "m", format="onnx")


def test_it_holds_float32_and_ordinary_operations_and_no_discriminator(exported, model):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel()
    graph.ParseFromString((exported / "saved_model.pb").read_bytes())
    functions = graph.meta_graphs[0].graph_def.library.function
    operations = {node.op for function in functions for node in function.node_def}
    assert not [name for name in operations if "Random" in name or "Xla" in name or "PyFunc" in name]

    assert {path.name for path in (exported / "variables").iterdir()} == {
        "variables.index",
        "variables.data-00000-of-00001",
    }
    shapes = {
        name: (shape, tf.train.load_variable(str(exported / "variables" / "variables"), name).dtype)
        for name, shape in tf.train.list_variables(str(exported / "variables" / "variables"))
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }
    networks = (
        model.condition_encoder,
        model.generator,
        model.style_encoder,
        model.content_encoder,
    )
    weights = sorted(list(v.shape) for network in networks for v in network.weights)
    assert sorted(shape for shape, _ in shapes.values()) == weights
    assert {dtype for _, dtype in shapes.values()} == {np.dtype("float32")}


# --- how it was trained does not show ---


def test_a_model_of_mixed_precision_is_exported_in_float32(model, expected, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = DRAI(DRAIConfig(**CONFIG))
        model.save_weights(tmp_path / "model.weights.h5")
        mixed.load_weights(tmp_path / "model.weights.h5")
        folder = export(mixed, tmp_path / "mixed", card={})
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert_close(run_signatures(folder), expected, 1e-5)


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")
def test_a_model_under_jax_is_exported_with_the_same_numbers(model, expected, tmp_path, run_python):
    model.save_weights(tmp_path / "model.weights.h5")
    code = f"""
import sys
from tfdisent.export import export
from tfdisent.systems.drai import DRAI, DRAIConfig
model = DRAI(DRAIConfig(**{CONFIG}))
model.load_weights({str(tmp_path / "model.weights.h5")!r})
print(export(model, {str(tmp_path / "jax")!r}, card={{}}))
assert "tensorflow" not in sys.modules
"""
    # Without JAX's optimizations a third of the time goes into drawing weights.
    quick = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    folder = run_python(code, quick).strip()
    assert_close(run_signatures(folder), expected, 1e-5)
    card = json.loads(pathlib.Path(folder, "card.json").read_text())
    assert card["versions"]["trained_on"] == "jax"


def test_exporting_leaves_the_model_as_it_was(model, tmp_path, quick_write):
    def weights():
        return [keras.ops.convert_to_numpy(variable) for variable in model.variables]

    before = weights()
    with model.averaged():
        assert not all(map(np.array_equal, before, weights()))
    export(model, tmp_path / "m", card={})
    assert all(map(np.array_equal, before, weights()))


# --- warm-up ---


def prediction_log():
    """TF Serving's message, from its own package or from the fields that are used here."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    with contextlib.suppress(ImportError):
        from tensorflow_serving.apis import prediction_log_pb2

        return prediction_log_pb2.PredictionLog

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="warmup_for_tests.proto",
        package="warmup_for_tests",
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )

    def message(parent, name, *fields, map_entry=False):
        added = parent.add(name=name, options={"map_entry": map_entry})
        for number, key, kind, label in fields:
            text = kind == "string"
            added.field.add(
                name=key,
                number=number,
                label=label,
                type=field.TYPE_STRING if text else field.TYPE_MESSAGE,
                type_name=None if text else kind,
            )
        return added

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    package = ".warmup_for_tests."
    message(
        file.message_type,
        "ModelSpec",
        (1, "name", "string", one),
        (3, "signature_name", "string", one),
    )
    request = message(
        file.message_type,
        "PredictRequest",
        (1, "model_spec", package + "ModelSpec", one),
        (2, "inputs", package + "PredictRequest.InputsEntry", many),
    )
    message(
        request.nested_type,
        "InputsEntry",
        (1, "key", "string", one),
        (2, "value", "." + tensor_pb2.TensorProto.DESCRIPTOR.full_name, one),
        map_entry=True,
    )
    message(file.message_type, "PredictLog", (1, "request", package + "PredictRequest", one))
    message(file.message_type, "PredictionLog", (6, "predict_log", package + "PredictLog", one))
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(package[1:] + "PredictionLog"))


def test_warmup_requests_run_every_signature_with_one_and_several_examples(exported):
    import tensorflow as tf

    parse, signatures = prediction_log(), tf.saved_model.load(exported).signatures
    batches = {}
    for record in tf.data.TFRecordDataset(exported / "assets.extra/tf_serving_warmup_requests"):
        request = parse.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "drai-skin_phantom"
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        outputs = signatures[name](**inputs)
        sizes = {len(tensor) for tensor in (*inputs.values(), *outputs.values())}
        assert len(sizes) == 1
        batches.setdefault(name, []).extend(sizes)
    assert batches == {"generate": [1, 8], "encode": [1, 8], "hybrid": [1, 8]}


@pytest.mark.parametrize("length", [0, 1, 127, 128, 300, 70_000])
def test_long_fields_are_encoded_as_protobuf_does(length):
    from google.protobuf import wrappers_pb2

    payload = bytes(length)
    expected = wrappers_pb2.BytesValue(value=payload).SerializeToString()
    # proto3 leaves empty fields out; written, they mean the same.
    assert exporting._field(1, payload) == (expected or b"\x0a\x00")


# --- model card ---


def test_the_card_says_what_it_is_given_and_what_was_exported(exported):
    card = json.loads((exported / "card.json").read_text())
    assert (card["name"], card["version"], card["system"]) == ("drai-skin_phantom", 1, "drai")
    assert card["summary"].startswith("DRAI: dual adversarial inference")
    assert card["signatures"]["hybrid"] == {
        "inputs": {"content_image": [None, 16, 16, 3], "style_image": [None, 16, 16, 3]},
        "outputs": {"image": [None, 16, 16, 3]},
    }
    assert card["config"]["style_dim"] == 4
    assert card["metrics"]["inception_score"] == {"value": None, "std": 0.5, "n": 300}
    assert card["data"]["splits"]["train"] == {"subjects": 2, "num_examples": 240}
    assert not {"inputs", "outputs"} & set(card)  # it is no model of volumes

    readme = (exported / "README.md").read_text()
    for text in (
        "# DRAI on skin phantoms",
        "Not a medical device",
        "Trained on drawings.",
        "| `generate` input | `condition` | (B, 3) | one-hot of bkl, mel, nv |",
        "| `encode` output | `style` | (B, 4) |",
        "| frechet_distance | 12.5 |  | 300 | inception |  |",
        "| splits / train / num_examples | 240 |",
        "--raw_dir=<path> --steps=5",
        "https://arxiv.org/abs/2012.04764",
        "Apache-2.0",
        "drai-skin_phantom:predict",
        f"| keras | {keras.__version__} |",
    ):
        assert text in readme
    assert "Use on volumes" not in readme


def test_the_python_of_the_card_runs(exported, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(exported.parents[1])
    names = {}
    exec(code, names)
    assert names["outputs"]["image"].shape == (1, 16, 16, 3)


def test_no_file_of_an_export_names_a_person_or_a_place_on_this_machine(exported):
    here = str(pathlib.Path(__file__).parents[1]).encode()
    for path in exported.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for private in (b"Jane", b"John", here, str(exported.parents[2]).encode()):
            assert private not in content, path


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"licens": "MIT"}, "received 'licens'"),
        ({"limits": 3}, "Expected card\\['limits'\\] to be text"),
        ({"metrics": "good"}, "Expected card\\['metrics'\\] to be a dict"),
    ],
)
def test_a_card_that_cannot_be_printed_is_refused_before_anything_is_written(model, card, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "m", card=card)
    assert not list(tmp_path.iterdir())


# --- versions and failures ---


def test_versions_count_up(model, tmp_path, quick_write):
    names = [export(model, tmp_path / "m", card={}).name for _ in range(2)]
    (tmp_path / "m" / "notes").mkdir()
    names.append(export(model, tmp_path / "m", card={}, version=10).name)
    names.append(export(model, tmp_path / "m", card={}).name)
    assert names == ["1", "2", "10", "11"]
    assert {path.name for path in (tmp_path / "m").iterdir()} == {*names, "notes"}


@pytest.mark.parametrize("version", [0, 1])
def test_a_version_that_is_there_or_is_none_is_refused(model, tmp_path, quick_write, version):
    folder = export(model, tmp_path / "m", card={})
    with pytest.raises(ValueError, match="does not have yet, received"):
        export(model, tmp_path / "m", card={}, version=version)
    assert [path.name for path in folder.iterdir()] == ["saved_model.pb"]


def test_everyone_may_read_an_export(exported):
    folders = [exported, *(path for path in exported.rglob("*") if path.is_dir())]
    assert all(path.stat().st_mode & 0o055 == 0o055 for path in folders)


def test_a_full_disk_leaves_nothing_behind(model, tmp_path, monkeypatch):
    def write(*arguments):
        folder = arguments[-1]
        (folder / "model").mkdir()
        (folder / "model" / "saved_model.pb").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(exporting, "_write", write)
    monkeypatch.setattr(exporting, "_write_in_tensorflow_process", write)
    with pytest.raises(OSError, match="Could not export version 1 to .*No space left.*Nothing was left"):
        export(model, tmp_path / "m", card={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [10_000, 200_000], ids=["weights", "saved_model"])
def test_files_that_may_not_grow_leave_nothing_behind(model, tmp_path, limit):
    resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="Could not export version 1"):
            export(model, tmp_path / "m", card={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_is_an_error_and_stays(model, tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(OSError, match="Could not export version 1 to .*File exists"):
        export(model, tmp_path / "m", card={})
    assert (tmp_path / "m").read_text() == "mine"


def test_earlier_versions_outlive_a_failed_rename(model, tmp_path, quick_write, monkeypatch):
    first = export(model, tmp_path / "m", card={})

    def rename(self, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "rename", rename)
    with pytest.raises(OSError, match="Could not export version 2 .*Read-only file system"):
        export(model, tmp_path / "m", card={})
    assert list((tmp_path / "m").iterdir()) == [first]


def test_the_reason_of_a_failed_tensorflow_process_is_told(model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(sys, "executable", "/bin/false" if os.name == "posix" else sys.executable)
    with pytest.raises(OSError, match="the TensorFlow process that writes it stopped"):
        export(model, tmp_path / "m", card={})
    assert not list(tmp_path.iterdir())
