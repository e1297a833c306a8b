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
    chosen = choose(devices, available())
    if keras.backend.backend() == "tensorflow":
        from tfdisent.training import _tensorflow

        return _tensorflow.mirrored_scope(chosen)
    return keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False).scope()


def check_batch(devices: str | int, batch_size: int) -> None:
    """Raises ValueError if the devices are not there, or do not divide the batch evenly."""
    number = 1 if str(devices) == "1" else len(choose(devices, available()))
    if batch_size % number:
        fitting = batch_size - batch_size % number or number
        raise ValueError(
            f"Expected a batch that {number} devices divide evenly (--devices={devices}), received --batch_size="
            f"{batch_size}: give --batch_size={fitting} or {fitting + number}, or other devices."
        )


def available() -> list[str]:
    """Names of the devices that the backend can distribute to.

    Raises:
        ValueError: it cannot.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from tfdisent.training import _tensorflow

        return _tensorflow.device_names()
    if backend == "jax":
        return keras.distribution.list_devices()
    raise ValueError(f"Expected --devices=1 on the {backend} backend, which trains on one device.")


def choose(devices: str | int, available: list[str]) -> list[str]:
    """All available devices, or the first few."""
    if devices == "all":
        return available
    if not str(devices).isdigit() or not 1 <= int(devices) <= len(available):
        raise ValueError(f"Expected devices to be 'all' or a number from 1 to {len(available)}, received {devices!r}.")
    return available[: int(devices)]
