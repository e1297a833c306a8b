"""What systems of slices in several aligned modalities share: their batches, and what a call of the model is."""

from collections.abc import Mapping

from keras import ops

from tfdisent.training.adversarial import has_values
from tfdisent.training.system import System


class SliceSystem(System):
    """A system of slices whose verb is `translate`; its config has `image_shape` and `modalities`.

    `fit` takes batches {"image": (B, H, W, M) in [-1, 1], "available": (B, M) of 0 and 1, by default 1}, or these two
    as x and y; other keys are ignored.
    """

    optional_inputs = ("available",)
    needs_source = False  # whether `translate` must be told which modality an image is in
    call_inputs = ("image", "target")

    def batch_shapes(self) -> dict[str, tuple]:
        """Slices with a channel for each modality, and which of these there are."""
        num_modalities = self.config.num_modalities
        return {"image": (*self.config.image_shape[:2], num_modalities), "available": (num_modalities,)}

    def call(self, inputs, training=False):
        """Slices in another modality, (B, H, W, 1) in [-1, 1]: `translate` in the form that `predict` takes.

        Args:
            inputs: {"image": (B, H, W, 1) in [-1, 1], "target": the modalities wanted, as indices (B,) or one-hot codes
                (B, M)}; and the "source" likewise, where `call_inputs` names it.
        """
        names = self.call_inputs
        given = sorted(inputs) if isinstance(inputs, Mapping) else [type(inputs).__name__]
        if not set(names) <= set(given):
            raise ValueError(
                f"Expected a dict with {', '.join(map(repr, names))}, since the modality wanted must be told, received "
                f"{', '.join(map(repr, given))}; see `translate`."
            )
        return self.translate(inputs["image"], *(self._modality(inputs[name]) for name in names[1:]))

    def _modality(self, values):
        """Indices or codes as `translate` takes them; where a function is traced, indices have no value, so codes."""
        if has_values(values):
            return ops.convert_to_numpy(values)
        return ops.one_hot(values, self.config.num_modalities) if len(values.shape) == 1 else values

    def checked_slices(self, image):
        """The slices (B, H, W, 1) of a verb as float32, checked."""
        return self.checked("image", image, self.config.image_shape)
