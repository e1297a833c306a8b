"""Two runs from one seed are equal to the last bit, on each backend."""

import numpy as np

from tests.checks import same_state
from tests.tiny import NARROW
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.training.checkpoint import Checkpoints

CONFIG = DRAIConfig(**NARROW, channels=1, dropout=0.3, train_twice=True)


def trained(steps: int):
    """DRAI with its own noise and dropout, after some steps, and what it logged."""
    import keras

    keras.utils.set_random_seed(3)
    model = DRAI(CONFIG, seed=3)
    model.compile()
    random = np.random.default_rng(0)
    size = 8 * steps
    images = random.uniform(-1, 1, (size, 16, 16, 1)).astype("float32")
    conditions = np.eye(CONFIG.num_conditions, dtype="float32")[random.integers(0, CONFIG.num_conditions, size)]
    logs = model.fit(images, conditions, batch_size=8, shuffle=False, verbose=0).history
    return model, logs


def test_two_runs_from_one_seed_are_equal_to_the_last_bit(tmp_path):
    (one, logs), (other, others) = trained(4), trained(4)
    same_state(one, other)
    assert logs == others
    files = []
    for name, model in (("one", one), ("other", other)):
        files.append((Checkpoints(tmp_path / name).save(model, 4) / "weights.npz").read_bytes())
    assert files[0] == files[1]
