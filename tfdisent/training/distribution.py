"""Several devices on one machine."""

import contextlib

import keras


def scope(devices: str | int = 1) -> contextlib.AbstractContextManager:
    """The context in which a model must be made, compiled and trained to run on several devices.

    TensorFlow: `tf.distribute.MirroredStrategy`. JAX: `keras.distribution.DataParallel`, which also serves
        several hosts.

    Args:
        devices: "all", or a number of devices; 1 for no distribution.

    Raises:
        ValueError: if the backend cannot, or there are fewer devices.
    """
    if str(devices) == "1":
        return contextlib.nullcontext()
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from tfdisent.training import _tensorflow

        return _tensorflow.mirrored_scope(choose(devices, _tensorflow.device_names()))
    if backend == "jax":
        chosen = choose(devices, keras.distribution.list_devices())
        return keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False).scope()
    raise ValueError(f"Expected one device on the {backend} backend, received devices={devices!r}.")


def choose(devices: str | int, available: list[str]) -> list[str]:
    """All available devices, or the first few."""
    if devices == "all":
        return available
    if not str(devices).isdigit() or not 1 <= int(devices) <= len(available):
        raise ValueError(f"Expected devices to be 'all' or a number from 1 to {len(available)}, received {devices!r}.")
    return available[: int(devices)]
