"""TensorBoard's scalars: grouped, each step once, and those of evaluations beside those of training."""

import keras
import pytest

from tfdisent.experiment.curves import Curves, write_evaluation

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for TensorBoard")


def scalars(folder):
    """{tag: [(step, value)]}, sorted by step."""
    import tensorflow as tf

    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return {tag: sorted(points) for tag, points in found.items()}


def test_terms_stand_in_the_group_of_their_player(tmp_path):
    curves = Curves(tmp_path, lambda group, step: True)
    curves.write_training(20, {"d_image": 0.5, "g_image": 0.25, "cycle": 2.0})
    curves.write("validation", 20, {"cycle": 3.0})
    curves.close()
    assert scalars(tmp_path) == {
        "discriminators/d_image": [(20, 0.5)],
        "generators/g_image": [(20, 0.25)],
        "generators/cycle": [(20, 2.0)],
        "validation/cycle": [(20, 3.0)],
    }


def test_what_is_written_again_is_dropped_by_group_and_step(tmp_path):
    first = Curves(tmp_path, lambda group, step: True)
    for step in (20, 40):
        first.write_training(step, {"cycle": 1.0})
        first.write("validation", step, {"cycle": 2.0})
    first.close()
    again = Curves(tmp_path, lambda group, step: step <= 20 or group == "validation")
    again.write_training(40, {"cycle": 5.0})
    again.close()
    assert scalars(tmp_path) == {
        "generators/cycle": [(20, 1.0), (40, 5.0)],
        "validation/cycle": [(20, 2.0), (40, 2.0)],
    }


def test_an_evaluation_takes_the_place_of_a_former_one_at_the_same_step_alone(tmp_path):
    training = Curves(tmp_path, lambda group, step: True)
    training.write_training(40, {"cycle": 1.0})
    training.close()
    for step, value in ((20, 0.5), (40, 0.75), (40, 0.875)):
        write_evaluation(tmp_path, step, {"dice": {"value": value}, "psnr": {"value": None, "reason": "no masks"}})
    assert scalars(tmp_path) == {"generators/cycle": [(40, 1.0)], "evaluation/dice": [(20, 0.5), (40, 0.875)]}
