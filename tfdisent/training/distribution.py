"""Several devices: of one machine, or of several hosts that train one model together.

Hosts are processes of one command, started with the same arguments but for `host`; they meet at the first of them, the
coordinator. Each reads its share of every batch. The first alone writes to the run folder, and all of them read
checkpoints there, so it must be on a disk that they share.
"""

import contextlib
import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import keras

from tfdisent.training.callbacks import SaveCheckpoints

CONNECTING = 600  # seconds that a host waits for the others
SILENCE = 60  # seconds without a sign of life after which a host is taken for dead


class Hosts(NamedTuple):
    """This process among those that train together.

    Attributes:
        coordinator: address and port at which they meet, "HOST:PORT", or None for one host.
        number: how many there are.
        index: which of them this is; 0 is the first.
    """

    coordinator: str | None = None
    number: int = 1
    index: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the host that writes."""
        return self.index == 0

    def check(self, batch_size: int) -> None:
        """Raises ValueError where they cannot train together: wrong numbers, another backend, or a batch that they do
        not divide.
        """
        if self == Hosts():
            return
        if self.coordinator is None or self.number < 2:
            raise ValueError(
                "Expected --coordinator=HOST:PORT, --num_hosts of 2 or more and --host together, or none of them; "
                f"received --coordinator={self.coordinator} --num_hosts={self.number} --host={self.index}."
            )
        address = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", self.coordinator)
        if not address or not 0 < int(address[2]) < 65536:
            raise ValueError(
                f"Expected --coordinator=HOST:PORT, host 0 and a free port of it; received {self.coordinator!r}."
            )
        if not 0 <= self.index < self.number:
            raise ValueError(f"Expected --host from 0 to {self.number - 1}, received {self.index}.")
        backend = keras.backend.backend()
        if backend != "jax":
            raise ValueError(
                f"Several hosts train together on the JAX backend alone; this is {backend}. Set KERAS_BACKEND=jax on "
                "each host, or train on one (on TensorFlow with all of its GPUs: --devices=all)."
            )
        if batch_size % self.number:
            raise ValueError(
                f"Expected a --batch_size that {self.number} hosts divide evenly, received {batch_size}: each reads "
                "its share of every batch."
            )


ALONE = Hosts()


def scope(devices: str | int = 1, hosts: Hosts = ALONE) -> contextlib.AbstractContextManager:
    """The context in which a model must be made, compiled and trained to run on several devices.

    TensorFlow: `tf.distribute.MirroredStrategy`. JAX: `keras.distribution.DataParallel`, over several hosts too, which
    must be connected before.

    Args:
        devices: "all", or a number of devices of each host; 1 for no distribution on one host.
        hosts: this host among the others.

    Raises:
        ValueError: if the backend cannot, or there are fewer devices.
    """
    if str(devices) == "1" and hosts.number == 1:
        return contextlib.nullcontext()
    if hosts.number > 1:
        from tfdisent.training import _jax

        chosen = [name for names in _jax.device_names() for name in choose(devices, names)]
    else:
        chosen = choose(devices, available())
    if keras.backend.backend() == "tensorflow":
        from tfdisent.training import _tensorflow

        return _tensorflow.mirrored_scope(chosen)
    return keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False).scope()


def check_batch(devices: str | int, batch_size: int) -> None:
    """Raises ValueError if this host's devices are not there, or do not divide the batch evenly."""
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


def connect(hosts: Hosts) -> None:
    """Waits for the other hosts; from then on their devices are one machine's. Does nothing for one host.

    Raises:
        OSError: they did not come, or the coordinator cannot be reached.
    """
    if hosts.number > 1:
        from tfdisent.training import _jax

        try:
            _jax.connect(hosts.coordinator, hosts.number, hosts.index, CONNECTING, SILENCE)
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(
                f"Host {hosts.index} waited {CONNECTING} s for the {hosts.number} hosts to meet at {hosts.coordinator} "
                f"({_first_line(error)}). Start the same command on each with its own --host, and see that this "
                "address of host 0 can be reached from all."
            ) from error


def disconnect(hosts: Hosts) -> None:
    """Leaves the others; needed before one host works on alone."""
    if hosts.number > 1:
        from tfdisent.training import _jax

        _jax.disconnect()


def require_same(hosts: Hosts, what: str, text: str) -> None:
    """Raises ValueError on every host if one of them has another text than the first."""
    if hosts.number == 1:
        return
    from tfdisent.training import _jax

    digest = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) >> 1
    others = _jax.gathered(digest)
    if different := [index for index, other in enumerate(others) if other != others[0]]:
        raise ValueError(
            f"Host {different[0]} has {what} other than host 0; here (host {hosts.index}): {text}. Start all hosts "
            "with the same flags but --host, and with --run_dir on a disk that they share."
        )


class SaveWithHosts(SaveCheckpoints):
    """`SaveCheckpoints` of several hosts: the first writes, all end after the same step when one is asked to stop."""

    is_first = True

    def on_train_begin(self, logs=None):
        """Hands Ctrl-C on as SIGTERM, for which JAX listens and which it tells the other hosts."""
        self._previous = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))}
        self._began = time.monotonic()

    def on_step(self, logs):
        """Saves when due."""
        from tfdisent.training import _jax

        if _jax.is_to_stop(self.step):
            self.signal = signal.SIGTERM
        super().on_step(logs)

    def _save(self):
        if self.is_first:
            # Keras makes some variables to write others; those must not wait for the other hosts.
            distribution = keras.distribution.distribution()
            keras.distribution.set_distribution(None)
            try:
                super()._save()
            finally:
                keras.distribution.set_distribution(distribution)
        self._saved = self.step


class _FollowHosts(SaveWithHosts):
    is_first = False


def saver(hosts: Hosts) -> type[SaveCheckpoints]:
    """The class of the callback that writes checkpoints on this host."""
    if hosts.number == 1:
        return SaveCheckpoints
    return SaveWithHosts if hosts.is_first else _FollowHosts


@contextlib.contextmanager
def losses_told(hosts: Hosts) -> Iterator[None]:
    """In the block the loss of another host ends this process with exit status 1 and a message that says how to go on.

    It ends at once, since JAX would wait for the lost host at an orderly exit, and then abort.
    """
    try:
        yield
    except Exception as error:
        if hosts.number == 1 or not re.search("gloo|nccl|coordination|unavailable|peer", str(error), re.IGNORECASE):
            raise
        message = (
            f"error: host {hosts.index} lost another host in training ({_first_line(error)}). Checkpoints are intact: "
            "the same command on all hosts, or on one without --coordinator, --num_hosts and --host, continues there."
        )
        print(message, file=sys.stderr, flush=True)
        os._exit(1)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
