"""Training that stops and resumes is held to training that never stopped, bit for bit."""

import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import ops

from tfdisent.layers import SpectralNormalization
from tfdisent.training import weights
from tfdisent.training.adversarial import AdversarialModel, Phase, ReplicaSeedGenerator
from tfdisent.training.callbacks import SaveCheckpoints
from tfdisent.training.checkpoint import BestCheckpoint, Checkpoints, NonFiniteWeights

BATCH = 4


class Small(AdversarialModel):
    """Everything that has state: batch norm, dropout, spectral norm, two Adams, averages, a generator of noise."""

    def __init__(self, width=4):
        super().__init__()
        self.seed_generator = ReplicaSeedGenerator(int(np.random.randint(1 << 20)))
        self.generator = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(width, use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.LeakyReLU(0.2),
                keras.layers.Dense(2),
            ],
            name="generator",
        )
        self.critic = keras.Sequential(
            [
                keras.Input((2,)),
                SpectralNormalization(keras.layers.Dense(width, "tanh")),
                # With a seed: on PyTorch, Keras draws unseeded dropout from a generator that it cannot save.
                keras.layers.Dropout(0.3, seed=int(np.random.randint(1 << 20))),
                keras.layers.Dense(1),
            ],
            name="critic",
        )
        self.track_averages([self.generator], 0.9)
        self.built = True

    def phases(self):
        return [
            Phase(self.critic_loss, [self.critic], "critic"),
            Phase(self.generator_loss, [self.generator], "generator"),
        ]

    def passes(self, batch):
        return [{**batch, "noise": keras.random.normal(ops.shape(batch["x"]), seed=self.seed_generator)}]

    def critic_loss(self, batch, carried):
        fake = self.generator(batch["noise"], training=True)
        real = ops.mean(ops.square(self.critic(batch["x"], training=True) - 1.0))
        total = real + ops.mean(ops.square(self.critic(fake, training=True)))
        return total, {"critic": total}, {}

    def generator_loss(self, batch, carried):
        fake = self.generator(batch["noise"], training=True)
        total = ops.mean(ops.square(self.critic(fake, training=True) - 1.0))
        return total, {"generator": total}, {}


def small(seed, width=4, optimizer=keras.optimizers.Adam):
    """A compiled model with weights, seeds and dropout of its own."""
    keras.utils.set_random_seed(seed)
    model = Small(width)
    model.compile({name: optimizer(1e-2, name=name) for name in ("critic", "generator")})
    return model


def train(model, first, last, callbacks=()):
    """Steps first + 1 to last, always of the same endless data."""
    x = np.concatenate([np.random.default_rng(step).normal(size=(BATCH, 2)) for step in range(first, last)])
    x = {"x": x.astype("float32")}
    model.fit(x, batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def state(model):
    """Every variable: weights, averages, seeds, and both optimizers'."""
    return {
        f"{index} {variable.path}": ops.convert_to_numpy(variable).copy()
        for index, variable in enumerate([*model.variables, *model.optimizer.variables])
    }


def assert_same(model, other):
    one, two = state(model), state(other)
    assert [value.shape for value in one.values()] == [value.shape for value in two.values()]
    different = [name for name, other in zip(one, two, strict=True) if not np.array_equal(one[name], two[other])]
    assert different == []


def test_the_model_under_test_has_all_kinds_of_state():
    names = [path.split("/")[-1].split(" ")[-1] for path in state(small(0))]
    for part in ("moving_variance", "u", "count", "iteration"):
        assert part in names, part
    assert sum(name.endswith("velocity") for name in names) == 9  # Adam's, one per trainable variable
    assert names.count("seed_generator_state") == 2


def test_training_that_is_saved_and_restored_equals_training_in_one_piece(tmp_path):
    straight = train(small(1), 0, 8)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(train(small(1), 0, 4), 4)
    resumed = small(seed=99)
    assert checkpoints.restore(resumed)["step"] == 4
    assert_same(straight, train(resumed, 4, 8))


def test_a_restored_state_is_the_saved_one_in_every_variable(tmp_path):
    model = train(small(1), 0, 3)
    Checkpoints(tmp_path).save(model, 3, epoch=2, note="kept")
    other = small(2)
    assert not all(np.array_equal(a, b) for a, b in zip(state(model).values(), state(other).values(), strict=True))
    restored = Checkpoints(tmp_path).restore(other)
    assert (restored["step"], restored["epoch"], restored["note"]) == (3, 2, "kept")
    assert_same(model, other)


KILLED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("script", {file!r})
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script.save_every_step({folder!r})
"""


def save_every_step(folder):
    """What the process to be killed does: it would take minutes to end by itself."""
    checkpoints, model = Checkpoints(folder, keep=3), small(1)
    save = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: checkpoints.save(model, batch + 1))
    train(model, 0, 20_000, [save])


@pytest.mark.backend("tensorflow")
def test_a_killed_run_resumes_in_another_process_as_if_it_had_never_stopped(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
    code = KILLED.format(file=__file__, folder=str(checkpoints.directory))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=errors, stderr=errors)
    try:
        deadline = time.monotonic() + 200
        while not checkpoints.steps() or checkpoints.steps()[-1] < 5:
            assert process.poll() is None, (tmp_path / "errors").read_text()
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

    resumed = small(99)
    step = checkpoints.restore(resumed)["step"]
    assert step >= 5
    train(resumed, step, step + 3)
    assert_same(train(small(1), 0, step + 3), resumed)
    checkpoints.save(resumed, step + 3)
    assert sorted(path.name[:5] for path in checkpoints.directory.iterdir()) == ["step-"] * 3


def saved(folder, *steps, keep=3):
    """A model and the checkpoints of these steps, all of the same state."""
    checkpoints, model = Checkpoints(folder, keep=keep), small(1)
    for step in steps:
        checkpoints.save(model, step)
    return checkpoints, model


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(file, byte=None, bit=0):
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if byte is None else byte] ^= 1 << bit
    file.write_bytes(content)


DAMAGES = {
    "weights cut short": lambda folder: cut_short(folder / "weights.npz"),
    "weights changed": lambda folder: flip_a_bit(folder / "weights.npz"),
    "weights missing": lambda folder: (folder / "weights.npz").unlink(),
    "state cut short": lambda folder: (folder / "state.json").write_text('{"step": 2, "sha'),
    "state empty": lambda folder: (folder / "state.json").write_text(""),
    "state without checksum": lambda folder: (folder / "state.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_it_says_so(tmp_path, caplog, damage):
    checkpoints, model = saved(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "step-00000002")
    with caplog.at_level(logging.WARNING, "tfdisent"):
        assert checkpoints.restore(model)["step"] == 1
    assert "step-00000002 is cut short or damaged" in caplog.text


def test_when_every_checkpoint_is_damaged_it_is_an_error_and_not_a_new_start(tmp_path):
    checkpoints, model = saved(tmp_path, 1, 2)
    for step in (1, 2):
        DAMAGES["weights cut short"](tmp_path / f"step-{step:08d}")
    expected = "None of the checkpoints in .* can be used: step-00000002 is cut short or damaged; step-00000001 is cut"
    with pytest.raises(ValueError, match=expected):
        checkpoints.restore(model)


def test_a_bit_flipped_anywhere_is_detected_or_harmless(tmp_path, caplog):
    checkpoints, model = saved(tmp_path, 1)
    before = state(model)
    checkpoints.save(train(model, 0, 1), 2, seconds=1.5, metrics={"count": 3, "sums": {"critic": 0.25}})
    after, folder, detected = state(model), tmp_path / "step-00000002", 0
    assert any(not np.array_equal(one, two) for one, two in zip(before.values(), after.values(), strict=True))
    for file in (folder / "state.json", folder / "weights.npz"):
        content = file.read_bytes()
        # All of the state's bytes, and 300 places all over the weights' file.
        for number, byte in enumerate(range(0, len(content), max(1, len(content) // 300))):
            flip_a_bit(file, byte, number % 8)
            restored = checkpoints.restore(model)
            if restored["step"] == 1:
                detected += 1
                assert "step-00000002 is cut short or damaged; the one before it is used" in caplog.text
            else:
                assert restored == {**json.loads(content), **restored} if file.name == "state.json" else None
            expected = before if restored["step"] == 1 else after
            assert all(np.array_equal(a, b) for a, b in zip(state(model).values(), expected.values(), strict=True))
            caplog.clear()
            file.write_bytes(content)
    assert detected > 500  # the others are in the white space between the values


def test_a_checkpoint_in_the_folder_of_another_step_is_passed_over(tmp_path, caplog):
    checkpoints, model = saved(tmp_path, 1, 2)
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000009")
    assert checkpoints.restore(model)["step"] == 1
    assert "step-00000009 holds the state of step 2; the one before it is used" in caplog.text


def test_a_checkpoint_of_an_earlier_version_is_refused_and_says_so(tmp_path):
    checkpoints, model = saved(tmp_path, 1)
    (tmp_path / "step-00000001" / "weights.npz").rename(tmp_path / "step-00000001" / "model.weights.h5")
    with pytest.raises(ValueError, match="step-00000001 was written by an earlier version of tfdisent"):
        checkpoints.restore(model)


@pytest.mark.parametrize("kind", ["weight", "average", "optimizer"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_saved_and_the_variable_is_named(tmp_path, kind, value):
    checkpoints, model = saved(tmp_path, 1, 2)
    variable, name = {
        "weight": (model.generator.trainable_variables[0], "generator/.*kernel"),
        "average": (model.average_variables[1], "average_generator_.*kernel"),
        "optimizer": (model.optimizer.variables[-1], "generator/.*velocity"),
    }[kind]
    array = ops.convert_to_numpy(variable).copy()
    array.flat[0] = value
    variable.assign(array)
    with pytest.raises(NonFiniteWeights, match=rf"after step 3 .* in {name}\..*steps \[1, 2\] are intact"):
        checkpoints.save(model, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    assert checkpoints.restore(model)["step"] == 2
    assert all(np.isfinite(array).all() for array in state(model).values())


def test_a_checkpoint_that_is_not_finite_is_never_offered(tmp_path, caplog, monkeypatch):
    checkpoints, model = saved(tmp_path, 1)
    model.generator.trainable_variables[0].assign(np.full((2, 4), np.nan))
    with monkeypatch.context() as patch:
        patch.setattr(weights, "not_finite", lambda arrays: [])  # as one that another program wrote
        checkpoints.save(model, 2)
    assert checkpoints.restore(model)["step"] == 1
    assert "step-00000002 holds NaN or infinity in " in caplog.text


class Exploding(Small):
    """The gradient of the generator is NaN in each step while its loss is 0."""

    def generator_loss(self, batch, carried):
        fake = self.generator(batch["noise"], training=True)
        # The slope of sqrt at 0 is infinite, and 0 times infinity is NaN.
        total = ops.sum(ops.sqrt(0.0 * fake))
        return total, {"generator": total}, {}


def test_a_gradient_that_is_nan_while_the_loss_is_finite_never_reaches_a_checkpoint(tmp_path):
    keras.utils.set_random_seed(1)
    model = Exploding()
    model.compile({name: keras.optimizers.Adam(1e-2, name=name) for name in ("critic", "generator")})
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, 0)
    with pytest.raises(NonFiniteWeights, match=r"after step 1 .* average_generator_dense_kernel"):
        train(model, 0, 3, [SaveCheckpoints(checkpoints, 1)])
    assert checkpoints.steps() == [0]


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    assert Checkpoints(tmp_path / "absent").restore(small(1)) is None


@pytest.mark.parametrize(
    "other",
    [{"width": 5}, {"optimizer": keras.optimizers.SGD}],
    ids=["another width", "another optimizer"],
)
def test_a_checkpoint_of_another_model_is_an_error_that_names_the_folder_and_the_fix(tmp_path, other):
    checkpoints, _ = saved(tmp_path, 1)
    with pytest.raises(ValueError, match="(?s)step-00000001 holds the state of another model.*the config"):
        checkpoints.restore(small(1, **other))


def test_only_the_newest_checkpoints_stay(tmp_path):
    checkpoints, _ = saved(tmp_path, 1, 20, 300, 4000, keep=2)
    assert checkpoints.steps() == [300, 4000]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000300", "step-00004000"]
    with pytest.raises(ValueError, match="at least 1 checkpoint, received keep=0"):
        Checkpoints(tmp_path, keep=0)


def test_a_step_can_be_saved_again(tmp_path):
    checkpoints, model = saved(tmp_path, 7)
    checkpoints.save(model, 7, again=True)
    assert checkpoints.steps() == [7]
    assert checkpoints.restore(model)["again"] is True


def test_a_full_disk_is_an_error_that_leaves_the_earlier_checkpoints_and_no_rubbish(tmp_path, monkeypatch):
    checkpoints, model = saved(tmp_path, 1, 2)

    def write_half(path, arrays):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "write", write_half)
        with pytest.raises(OSError, match=r"No space left on device.*checkpoints of steps \[1, 2\] are intact"):
            checkpoints.save(model, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    assert checkpoints.restore(model)["step"] == 2


FULL = """
import importlib.util, resource
spec = importlib.util.spec_from_file_location("script", {file!r})
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
checkpoints, model = script.saved({folder!r}, 1)
for limit in (0, 1, 100, 4096, {size} // 2, {size} - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoints.save(model, 2)
    except OSError as error:
        print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("restored", checkpoints.restore(model)["step"], sorted(path.name for path in checkpoints.directory.iterdir()))
"""


def test_a_file_that_may_not_grow_is_an_error_and_no_crash(tmp_path, run_python):
    """As a quota is; the process goes on, and the checkpoint before is whole."""
    saved(tmp_path / "size", 1)
    size = (tmp_path / "size/step-00000001/weights.npz").stat().st_size
    out = run_python(FULL.format(file=__file__, folder=str(tmp_path / "checkpoints"), size=size))
    assert out.count("refused Could not write a checkpoint") == 6 and "steps [1] are intact" in out
    assert "restored 1 ['step-00000001']" in out


def test_a_disk_that_is_full_is_an_error_and_no_crash(tmp_path):
    """On a file system of its own, where this user may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be made here: {made.stderr.strip()}")
    try:
        checkpoints, model = saved(disk, 1)
        with pytest.raises(OSError, match="No space left"), (disk / "other").open("wb") as other:
            while True:
                other.write(b"0" * 4096)
        with pytest.raises(OSError, match=r"No space left on device.*steps \[1\] are intact"):
            checkpoints.save(model, 2)
        assert checkpoints.restore(model)["step"] == 1
        (disk / "other").unlink()
        checkpoints.save(model, 2)
        assert checkpoints.restore(model)["step"] == 2
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_device_without_space_is_an_error_and_no_crash():
    with pytest.raises(OSError, match="No space left on device"):
        weights.write("/dev/full", {"a": np.zeros(100_000)})


@pytest.mark.parametrize("left", [".step-00000002.writing", ".step-00000000.deleting"])
def test_what_a_killed_run_was_writing_or_deleting_is_neither_read_nor_kept(tmp_path, left):
    checkpoints, model = saved(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / left)
    assert checkpoints.steps() == [1]
    checkpoints.save(model, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_what_else_lies_beside_checkpoints_does_no_harm_and_stays(tmp_path):
    checkpoints, model = saved(tmp_path, 1, 2)
    copies = [
        "step-00000002 (copy)",
        "step-00000002.bak",
        "step-2",
        "step-latest",
        "step--0000003",
        ".step-old.writing",
    ]
    for name in copies:
        shutil.copytree(tmp_path / "step-00000002", tmp_path / name)
    for name in ("notes", "step-00000007", ".hidden"):  # the second has no state
        (tmp_path / name).mkdir()
    for name in ("step-00000008", "step-notes", ".DS_Store"):
        (tmp_path / name).write_text("a file")
    others = sorted(path.name for path in tmp_path.iterdir() if path.name not in ("step-00000001", "step-00000002"))
    assert checkpoints.steps() == [1, 2]
    assert checkpoints.restore(model)["step"] == 2
    checkpoints.save(model, 3)
    assert checkpoints.steps() == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, *map("step-{:08d}".format, (1, 2, 3))])


def test_a_damaged_checkpoint_of_a_later_step_does_not_push_out_those_that_training_writes(tmp_path):
    checkpoints, model = saved(tmp_path, 10, 20, keep=1)
    cut_short(tmp_path / "step-00000020" / "weights.npz")
    checkpoints.save(model, 15)
    assert checkpoints.restore(model)["step"] == 15
    checkpoints.save(model, 20)
    assert checkpoints.steps() == [20] and checkpoints.restore(model)["step"] == 20


class Killed(BaseException):
    """Nothing that the code under test may handle."""


class Kill:
    """Ends the process, as far as files are concerned, before the given operation: none happens from then on."""

    OPERATIONS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")

    def __init__(self, before: int, patch):
        self.left = before
        for name in self.OPERATIONS:
            patch.setattr(os, name, self.guarded(getattr(os, name)))

    def guarded(self, operation):
        def run(*args, **kwargs):
            if self.left == 0:
                raise Killed
            self.left -= 1
            return operation(*args, **kwargs)

        return run


def test_a_kill_at_any_moment_of_a_save_leaves_whole_checkpoints_and_nothing_after_the_next_save(tmp_path, monkeypatch):
    _, model = saved(tmp_path / "before", 1, 2, keep=2)
    killed = []
    for moment in range(100):
        folder = tmp_path / str(moment)
        shutil.copytree(tmp_path / "before", folder)
        checkpoints = Checkpoints(folder, keep=2)
        with monkeypatch.context() as patch:
            Kill(moment, patch)
            try:
                checkpoints.save(model, 3)
                break
            except Killed:
                killed.append(sorted(path.name for path in folder.iterdir()))
        assert checkpoints.restore(model)["step"] in (2, 3), killed
        assert set(checkpoints.steps()) <= {1, 2, 3}
        checkpoints.save(model, 4)
        steps = checkpoints.steps()
        assert steps in ([2, 4], [3, 4]), killed
        assert sorted(path.name for path in folder.iterdir()) == [f"step-{step:08d}" for step in steps], killed
    # Killed while it was written, before it was renamed, and at each file of the one that is deleted.
    assert ["step-00000001", "step-00000002"] in killed
    assert [".step-00000003.writing", "step-00000001", "step-00000002"] in killed
    assert killed.count([".step-00000001.deleting", "step-00000002", "step-00000003"]) == 3


READER = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("script", {file!r})
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script.write_restored_state({folder!r}, {result!r})
"""


def write_restored_state(folder, result):
    """What a process under another backend does."""
    model = small(99)
    Checkpoints(folder).restore(model)
    outputs = ops.convert_to_numpy(ops.stop_gradient(model.critic(np.ones((3, 2), "float32"))))
    np.savez(result, *state(model).values(), outputs=outputs)


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_checkpoint_is_the_same_under_another_backend(tmp_path, run_python, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model = train(small(1), 0, 3)
    Checkpoints(tmp_path / "checkpoints").save(model, 3)
    result = tmp_path / "result.npz"
    code = READER.format(file=__file__, folder=str(tmp_path / "checkpoints"), result=str(result))
    run_python(code, env={"KERAS_BACKEND": backend})
    with np.load(result) as there:
        for index, (name, value) in enumerate(state(model).items()):
            np.testing.assert_array_equal(there[f"arr_{index}"], value, err_msg=name)
        here = ops.convert_to_numpy(model.critic(np.ones((3, 2), "float32")))
        np.testing.assert_allclose(there["outputs"], here, atol=1e-6)


def test_the_state_beside_the_weights_is_plain_json_that_anyone_can_read(tmp_path):
    _, model = saved(tmp_path, 5)
    read = json.loads((tmp_path / "step-00000005" / "state.json").read_text())
    assert read["step"] == 5 and read["format"] == 2


def best_of(tmp_path):
    return [path.name for path in (tmp_path / "best").glob("step-*")]


def test_the_best_checkpoint_is_that_of_the_first_highest_value(tmp_path):
    best = BestCheckpoint(tmp_path / "best")
    for step, value in ((1, float("nan")), (2, 0.5), (3, 0.75), (4, 0.75), (5, 0.25)):
        best.offer(small(1), step, value)
        assert best_of(tmp_path) == {1: [], 2: ["step-00000002"]}.get(step, ["step-00000003"])


def test_a_resumed_run_goes_on_with_its_best_and_forgets_what_came_later(tmp_path):
    BestCheckpoint(tmp_path / "best").offer(small(1), 4, 0.5)
    BestCheckpoint(tmp_path / "best", start=4).offer(small(1), 6, 0.25)
    assert best_of(tmp_path) == ["step-00000004"]
    again = BestCheckpoint(tmp_path / "best", start=3)
    assert best_of(tmp_path) == []
    again.offer(small(1), 6, 0.25)
    assert best_of(tmp_path) == ["step-00000006"]


def test_a_damaged_best_checkpoint_is_replaced_by_the_next(tmp_path):
    BestCheckpoint(tmp_path / "best").offer(small(1), 4, 0.5)
    (tmp_path / "best/step-00000004/state.json").write_text("{")
    BestCheckpoint(tmp_path / "best", start=5).offer(small(1), 6, 0.25)
    assert best_of(tmp_path) == ["step-00000006"]
