"""A run on two devices."""

import json

import keras
import pytest

from tests.experiment.test_run import SIZES

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

SCRIPT = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tfdisent.experiment import Settings, fit, prepare

run = prepare(Settings(system="drai", devices="all", steps=1, batch_size=8, data=DATA, changes=CHANGES,
                       data_dir=FOLDER + "/data", run_dir=FOLDER + "/r"))
strategy = run.model.distribute_strategy
assert strategy.num_replicas_in_sync == 2
fit(run)
assert run.model.distribute_strategy is strategy and run.state["step"] == 1
"""


def test_the_model_is_made_and_trained_on_the_same_devices(tmp_path, run_python):
    values = {"FOLDER": str(tmp_path), "CHANGES": SIZES, "DATA": {"num_train": 16, "num_test": 8}}
    code = SCRIPT
    for name, value in values.items():
        code = code.replace(name, repr(value))
    run_python(code)
    rows = (tmp_path / "r/metrics.csv").read_text().splitlines()
    assert len(rows) == 2 and json.loads((tmp_path / "r/config.json").read_text())["config"]["steps"] == 1
