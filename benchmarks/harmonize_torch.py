"""The harmonisation's training step in plain PyTorch, for comparison: its networks' sizes, its losses, its optimizers.

Written for this; it computes what `tfdisent.systems.harmonize` computes in a step where all slices have label maps, at
the same cost, and learns nothing here: the slices are noise. The public code's extractors pool to 7 x 7, not to 4 x 4,
and its generators hold a block that they never use.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks import Measurement
from benchmarks.torch_step import require_parameters, timed

DOMAINS = ("source", "target")


class Sizes(NamedTuple):
    """The paper's, at the size of its slices; the names are those of `HarmonizeConfig`."""

    image_size: int = 128
    num_classes: int = 4
    filters: int = 64
    segmentor_filters: int = 64
    extractor_filters: int = 64
    discriminator_filters: int = 64
    embedding_dim: int = 512
    num_levels: int = 7
    dropout: float = 0.5


def measure(
    parameters: int, sizes: dict | None = None, batch_size: int = 2, steps: int = 3, seconds: float = 30.0
) -> Measurement:
    """Seconds of a training step in float32.

    Args:
        parameters: how many ours has.
        sizes: fields of `Sizes` to change.
        batch_size: slices of each domain in a step.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.

    Raises:
        RuntimeError: the networks are not of the size of ours.
    """
    torch.manual_seed(0)
    networks = Networks(Sizes(**sizes or {}))
    require_parameters(networks, parameters)
    optimizers = optimizers_of(networks)
    return timed(lambda: step(networks, optimizers, batch_size), steps, seconds)


def optimizers_of(networks) -> list[torch.optim.Adam]:
    """That of generators, extractors and segmentation nets, and that of the discriminators."""
    moved = [*networks.generators.parameters(), *networks.extractors.parameters(), *networks.segmentors.parameters()]
    rates = ((moved, 2e-4), (list(networks.discriminators.parameters()), 1e-4))
    return [torch.optim.Adam(parameters, rate, betas=(0.5, 0.999)) for parameters, rate in rates]


def step(networks, optimizers, batch_size: int) -> tuple[float, float]:
    """One step on noise; returns both losses."""
    c = networks.sizes
    shape = (batch_size, c.image_size, c.image_size)
    real = {name: 2 * torch.rand(batch_size, 1, *shape[1:]) - 1 for name in DOMAINS}
    truth = {name: torch.randint(c.num_classes, shape) for name in DOMAINS}

    networks.discriminators.requires_grad_(False)
    loss, made = translated(networks, real, truth)
    _move(optimizers[0], loss)

    networks.discriminators.requires_grad_(True)
    judged = discriminated(networks, real, made)
    _move(optimizers[1], judged)
    return loss.item(), judged.item()


def translated(networks, real: dict, truth: dict):
    """The generators' loss, and what they made for each domain."""
    total, made = 0, {}
    for own, other in (DOMAINS, DOMAINS[::-1]):
        logits = networks.segmentors[own](real[own])
        made[other] = networks.translate(real[own], logits, other)
        logits_again = networks.segmentors[other](made[other])
        back = networks.translate(made[other], logits_again, own)
        total = total + ((networks.discriminators[other](made[other]) - 1) ** 2).mean()
        total = total + 10 * (back - real[own]).abs().mean()
        total = total + F.cross_entropy(logits, truth[own]) + F.cross_entropy(logits_again, truth[own])
    return total, made


def discriminated(networks, real: dict, made: dict):
    """The discriminators' loss."""
    total = 0
    for name in DOMAINS:
        judge = networks.discriminators[name]
        total = total + 0.5 * ((judge(real[name]) - 1) ** 2).mean() + 0.5 * (judge(made[name].detach()) ** 2).mean()
    return total


def _move(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Networks(nn.Module):
    """G and F with their extractors, S and Q, D_X and D_Y, by the domain that they are of or make."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.generators = nn.ModuleDict({name: Generator(sizes) for name in DOMAINS})
        self.extractors = nn.ModuleDict({name: Extractor(sizes) for name in DOMAINS})
        self.segmentors = nn.ModuleDict({name: Segmentor(sizes) for name in DOMAINS})
        self.discriminators = nn.ModuleDict({name: Discriminator(sizes) for name in DOMAINS})

    def translate(self, image, logits, to: str):
        """Slices in the domain `to`, by the label map that the logits show."""
        return self.generators[to](image, self.extractors[to](torch.softmax(logits, 1)))


class Extractor(nn.Module):
    """f: probabilities of the classes -> an embedding."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.num_classes, *(factor * sizes.extractor_filters for factor in (1, 2, 4, 8))]
        self.convolutions = nn.ModuleList(nn.Conv2d(widths[k], widths[k + 1], 3, 1, 1) for k in range(4))
        side = sizes.image_size // 16
        self.pool = max(1, side // 4)
        self.hidden = nn.Linear(widths[-1] * (side // self.pool) ** 2, sizes.embedding_dim)
        self.last = nn.Linear(sizes.embedding_dim, sizes.embedding_dim)
        self.dropout = sizes.dropout

    def forward(self, labels):
        h = labels
        for convolution in self.convolutions:
            h = F.relu(F.max_pool2d(convolution(h), 2))
        h = F.relu(self.hidden(F.avg_pool2d(h, self.pool).flatten(1)))
        return self.last(F.dropout(h, self.dropout))


class Renormalized(nn.Module):
    """Instance norm, then the embedding's gain and shift, then a convolution."""

    def __init__(self, sizes: Sizes, taken: int, given: int, side: int = 3):
        super().__init__()
        self.gain, self.shift = nn.Linear(sizes.embedding_dim, taken), nn.Linear(sizes.embedding_dim, taken)
        self.convolution = nn.Conv2d(taken, given, side, padding="same", bias=side == 3)

    def forward(self, h, embedding):
        h = F.instance_norm(h) * (1 + self.gain(embedding)[:, :, None, None]) + self.shift(embedding)[:, :, None, None]
        return self.convolution(F.leaky_relu(h, 0.2) if self.convolution.bias is not None else h)


class Block(nn.Module):
    """A residual block of the generator."""

    def __init__(self, sizes: Sizes, taken: int, given: int):
        super().__init__()
        inner = min(taken, given)
        self.first, self.second = Renormalized(sizes, taken, inner), Renormalized(sizes, inner, given)
        self.skip = Renormalized(sizes, taken, given, side=1) if taken != given else None

    def forward(self, features, embedding):
        h = self.second(self.first(features, embedding), embedding)
        return h + (self.skip(features, embedding) if self.skip else features)


class Generator(nn.Module):
    """G: a residual U-Net whose normalisations see the embedding."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        f = sizes.filters
        self.head = _halving(1, f)
        self.halvings = nn.ModuleList(_halving(k * f, k * f) for k in (2, 4, 8))
        self.down = nn.ModuleList(Block(sizes, i * f, o * f) for i, o in ((1, 2), (2, 4), (4, 8), (8, 8)))
        self.middle = nn.ModuleList(Block(sizes, 8 * f, 8 * f) for _ in range(2))
        self.up = nn.ModuleList(Block(sizes, i * f, o * f) for i, o in ((16, 4), (8, 2), (4, 1)))
        self.last = nn.Conv2d(f, 1, 3, 1, 1)

    def forward(self, image, embedding):
        h, skips = self.down[0](F.relu(self.head(image)), embedding), []
        for halving, block in zip(self.halvings, self.down[1:], strict=True):
            skips.append(h)
            h = block(halving(h), embedding)
        h = _doubled(h)
        for block in self.middle:
            h = block(h, embedding)
        for block, skip in zip(self.up, skips[::-1], strict=True):
            h = _doubled(block(torch.cat([h, skip], 1), embedding))
        return torch.tanh(self.last(F.leaky_relu(h, 0.2)))


class Segmentor(nn.Module):
    """S and Q: pix2pix's U-Net with a residual block before each halving."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        levels = min(sizes.num_levels, (sizes.image_size & -sizes.image_size).bit_length() - 1)
        widths = [sizes.segmentor_filters * min(2**level, 8) for level in range(levels)]
        taken = [1, *widths[:-1]]
        middle = range(4, levels - 1)
        self.blocks = nn.ModuleList(
            Residual(width, sizes.dropout if level in middle else 0.0) for level, width in enumerate(taken)
        )
        self.down = nn.ModuleList(_halving(i, o) for i, o in zip(taken, widths, strict=True))
        given = [*widths[-2::-1], sizes.num_classes]
        taken = [widths[-1], *(2 * width for width in given[:-1])]
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in zip(taken, given, strict=True))

    def forward(self, image):
        h, levels, last = image, [], len(self.down) - 1
        for k, (block, halving) in enumerate(zip(self.blocks, self.down, strict=True)):
            h = halving(block(F.leaky_relu(h, 0.2) if k else h))
            h = F.instance_norm(h) if 0 < k < last else h
            levels.append(h)
        for layer, skip in zip(self.up, [*levels[-2::-1], None], strict=True):
            h = layer(F.relu(h))
            h = h if skip is None else torch.cat([skip, F.instance_norm(h)], 1)
        return h


class Residual(nn.Module):
    """Two convolutions of padded features, each with instance norm."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)
        self.dropout = dropout

    def forward(self, features):
        h = F.relu(F.instance_norm(self.first(F.pad(features, (1, 1, 1, 1), "reflect"))))
        h = F.dropout(h, self.dropout) if self.dropout else h
        return features + F.instance_norm(self.second(F.pad(h, (1, 1, 1, 1), "reflect")))


class Discriminator(nn.Module):
    """D_X and D_Y: a score for each patch of 34 x 34 pixels."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        f = sizes.discriminator_filters
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4, stride, 1))
            for i, o, stride in ((1, f, 2), (f, 2 * f, 2), (2 * f, 4 * f, 1))
        )
        self.last = nn.Conv2d(4 * f, 1, 4, 1, 1)

    def forward(self, image):
        h = image
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
        return self.last(h)


def _halving(taken: int, given: int) -> nn.Conv2d:
    return nn.Conv2d(taken, given, 4, 2, 1)


def _doubled(h):
    return F.interpolate(h, scale_factor=2)
