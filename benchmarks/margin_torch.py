"""The margin system's training step in plain PyTorch, for comparison: its networks' sizes, its losses, its optimizer.

Written for this; it computes what `tfdisent.systems.margin` computes in a step where all modalities are there, at the
same cost, and learns nothing here: the slices are noise. The public code's step differs in its decoder.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import Measurement
from benchmarks.torch_step import require_parameters, timed

FACTORS = (1, 2, 4, 8, 8)  # of the first stage's channels, in both encoders


class Sizes(NamedTuple):
    """The paper's widths at the size of the public code's slices; the names are those of `MarginConfig`."""

    image_size: tuple[int, int] = (160, 192)
    num_modalities: int = 4
    num_slices: int = 7
    anatomy_channels: int = 4
    code_dim: int = 16
    filters: int = 32
    modality_filters: int = 16
    decoder_filters: int = 128
    spade_filters: int = 128
    num_experts: int = 3
    pool_size: int = 16


def measure(parameters: int, batch_size: int = 2, steps: int = 3, seconds: float = 30.0) -> Measurement:
    """Seconds of a training step in float32.

    Args:
        parameters: how many ours has.
        batch_size: subjects a step.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.

    Raises:
        RuntimeError: the networks are not of the size of ours.
    """
    torch.manual_seed(0)
    sizes = Sizes()
    networks = Networks(sizes)
    require_parameters(networks, parameters)
    optimizer = torch.optim.Adam(networks.parameters(), 2e-4, amsgrad=True, weight_decay=1e-5)
    return timed(lambda: step(networks, optimizer, batch_size), steps, seconds)


def step(networks, optimizer, batch_size: int) -> float:
    """One step on noise, of subjects that are each compared with the next; returns the loss."""
    c = networks.sizes
    images = [2 * torch.rand(batch_size, c.num_slices, *c.image_size) - 1 for _ in range(c.num_modalities)]
    loss = objective(networks, images, torch.arange(batch_size).roll(1))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def objective(networks, images: list, partner):
    """The sum of all terms but the weights' decay, which is the optimizer's."""
    c, every = networks.sizes, range(len(images))
    anatomy = [networks.anatomy(x, i) for i, x in enumerate(images)]
    code = [networks.code(x, i) for i, x in enumerate(images)]
    looks = torch.stack(code, 1).repeat(len(images), 1, 1).flatten(0, 1)  # (i and b and j, D)
    made = networks.decoder(torch.cat(anatomy), looks).unflatten(0, (len(images), -1, len(images)))  # (i, b, j, ...)
    pairs = [(i, j) for i in every for j in every]
    errors = {(i, j): (made[i, :, j] - images[j]).abs().mean() for i, j in pairs}
    own = sum(errors[i, i] for i in every) / len(images)
    cross = sum(errors[i, j] for i, j in pairs if i != j) / (len(pairs) - len(images))
    latent = 0
    for j in every:
        again = networks.code(made[:, :, j].flatten(0, 1), j).unflatten(0, (len(images), -1))
        latent = latent + (again - code[j]).abs().sum(-1).mean() / len(images)
    pooled = [F.max_pool2d(s, c.pool_size).flatten(1) for s in anatomy]
    alike = sum(_hinge(pooled[i], pooled[j], pooled[i][partner]) for i, j in pairs) / len(pairs)
    look = sum(_hinge(code[i], code[i][partner], code[j]) for i, j in pairs) / len(pairs)
    return own + 2 * cross + 0.1 * latent + 10 * alike + 2 * look


def _hinge(anchor, alike, other, margin: float = 0.1):
    return F.relu(margin - F.cosine_similarity(anchor, alike) + F.cosine_similarity(anchor, other)).mean()


class Networks(nn.Module):
    """E^A with one coding half for all modalities, E^M and D."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.encoder, self.anatomy_decoder = AnatomyEncoder(sizes), AnatomyDecoder(sizes)
        self.modality_encoder, self.decoder = ModalityEncoder(sizes), Decoder(sizes)

    def anatomy(self, image, modality: int):
        """s of slices that are all in one modality."""
        return self.anatomy_decoder(self.encoder(image, modality), modality)

    def code(self, image, modality: int):
        """z of slices that are all in one modality."""
        return self.modality_encoder(image, modality)


class CondConv(nn.Module):
    """A convolution whose kernel is mixed from experts, which see the modality's number."""

    def __init__(self, sizes: Sizes, taken: int, given: int, side: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.kernel = nn.Parameter(0.05 * torch.randn(sizes.num_experts, given, taken, side, side))
        self.bias = nn.Parameter(torch.zeros(given))
        self.route = nn.Linear(1, sizes.num_experts)

    def forward(self, x, modality: int):
        share = torch.sigmoid(self.route(torch.full((1,), modality + 1.0)))
        kernel = torch.tensordot(share, self.kernel, 1)
        padding = 1 if self.stride == 2 else "same"
        return F.conv2d(x, kernel, self.bias, self.stride, padding)


class Norm(nn.Module):
    """Batch norm with running statistics of each modality."""

    def __init__(self, sizes: Sizes, channels: int):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(sizes.num_modalities, channels))
        self.register_buffer("variance", torch.ones(sizes.num_modalities, channels))

    def forward(self, x, modality: int):
        return F.batch_norm(x, self.mean[modality], self.variance[modality], self.gain, self.shift, training=True)


class Stage(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, *convolution, sizes: Sizes):
        super().__init__()
        self.convolution, self.norm = CondConv(sizes, *convolution), Norm(sizes, convolution[1])

    def forward(self, x, modality: int):
        return F.relu(self.norm(self.convolution(x, modality), modality))


class AnatomyEncoder(nn.Module):
    """The coding half of E^A: features of five levels."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.num_slices, *(factor * sizes.filters for factor in FACTORS)]
        self.stages = nn.ModuleList(Stage(widths[k], widths[k + 1], 4, 2, sizes=sizes) for k in range(len(FACTORS)))

    def forward(self, x, modality: int):
        levels = []
        for stage in self.stages:
            x = stage(x, modality)
            levels.append(x)
        return levels


class AnatomyDecoder(nn.Module):
    """The decoding half of E^A."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [factor * sizes.filters for factor in FACTORS]
        taken = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        given = widths[-2::-1]
        self.stages = nn.ModuleList(Stage(i, o, 3, sizes=sizes) for i, o in zip(taken, given, strict=True))
        self.last = CondConv(sizes, 2 * widths[0], sizes.anatomy_channels, 3)

    def forward(self, levels, modality: int):
        h = levels[-1]
        for stage, level in zip(self.stages, levels[-2::-1], strict=True):
            h = torch.cat([level, stage(_doubled(h), modality)], 1)
        return torch.softmax(self.last(_doubled(h), modality), 1)


def _doubled(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear")


class ModalityEncoder(nn.Module):
    """E^M."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.num_slices, *(factor * sizes.modality_filters for factor in FACTORS)]
        self.convolutions = nn.ModuleList(CondConv(sizes, widths[k], widths[k + 1], 3, 2) for k in range(len(FACTORS)))
        height, width = sizes.image_size
        self.hidden = nn.Linear(widths[-1] * (height // 32) * (width // 32), 2 * sizes.code_dim)
        self.last = nn.Linear(2 * sizes.code_dim, sizes.code_dim)

    def forward(self, x, modality: int):
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x, modality), 0.2)
        return self.last(F.leaky_relu(self.hidden(x.flatten(1)), 0.2))


class Spade(nn.Module):
    """Instance norm, then a gain and a shift at each place, from the anatomy; each anatomy serves several features."""

    def __init__(self, sizes: Sizes, channels: int):
        super().__init__()
        self.hidden = nn.Conv2d(sizes.anatomy_channels, sizes.spade_filters, 3, padding="same")
        self.both = nn.Conv2d(sizes.spade_filters, 2 * channels, 3, padding="same")

    def forward(self, features, anatomy):
        gain, shift = self.both(F.relu(self.hidden(anatomy))).chunk(2, 1)
        normalized = F.instance_norm(features).unflatten(0, (len(anatomy), -1))
        return (normalized * (1 + gain[:, None]) + shift[:, None]).flatten(0, 1)


class Block(nn.Module):
    """A residual block with the anatomy in its normalisations."""

    def __init__(self, sizes: Sizes, taken: int, given: int):
        super().__init__()
        inner = min(taken, given)
        self.first, self.first_convolution = Spade(sizes, taken), nn.Conv2d(taken, inner, 3, padding="same")
        self.second, self.second_convolution = Spade(sizes, inner), nn.Conv2d(inner, given, 3, padding="same")
        self.skip = Spade(sizes, taken) if taken != given else None
        self.skip_convolution = nn.Conv2d(taken, given, 1, bias=False) if taken != given else None

    def forward(self, features, anatomy):
        h = self.first_convolution(F.leaky_relu(self.first(features, anatomy), 0.2))
        h = self.second_convolution(F.leaky_relu(self.second(h, anatomy), 0.2))
        return h + (self.skip_convolution(self.skip(features, anatomy)) if self.skip else features)


class Decoder(nn.Module):
    """D: slices of anatomies, in several looks each."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        height, width = sizes.image_size
        self.levels = next(k for k in range(5, -1, -1) if min(height, width) >> k >= 4 or not k)
        widths = [max(1, sizes.decoder_filters // d) for d in (1, 1, 1, 2, 4, 8)[-self.levels - 1 :]]
        self.coarse = (widths[0], height >> self.levels, width >> self.levels)
        self.dense = nn.Linear(sizes.code_dim, self.coarse[0] * self.coarse[1] * self.coarse[2])
        self.blocks = nn.ModuleList(Block(sizes, i, o) for i, o in zip([widths[0], *widths[:-1]], widths, strict=True))
        self.last = nn.Conv2d(widths[-1], sizes.num_slices, 1)

    def forward(self, anatomy, code):
        h = self.dense(code).unflatten(1, self.coarse)
        for level, block in zip(range(self.levels, -1, -1), self.blocks, strict=True):
            h = block(h, F.avg_pool2d(anatomy, 2**level))
            h = F.interpolate(h, scale_factor=2) if level else h
        return torch.tanh(self.last(h))
