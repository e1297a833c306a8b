"""The mmsdnet system's training step in plain PyTorch, for comparison: its networks' sizes, losses and optimizers.

Written for this; it computes what `tfdisent.systems.mmsdnet` computes in a step where all slices are labelled, at the
same cost, and learns nothing here: the slices are noise. Only the FiLM decoder is here, and no candidates.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks import Measurement
from benchmarks.torch_step import require_parameters, timed

LEVELS = 4  # halvings of the anatomy encoders
SLOPE = 0.3  # of the leaky ReLU


class Sizes(NamedTuple):
    """The paper's, at the size of its slices of CHAOS; the names are those of `MMSDNetConfig`."""

    image_size: int = 192
    num_modalities: int = 2
    num_labels: int = 5
    anatomy_channels: int = 8
    code_dim: int = 8
    filters: int = 64
    modality_filters: int = 16
    segmentor_filters: int = 64
    transformer_filters: int = 20
    transformer_units: int = 100
    control_points: int = 5
    discriminator_filters: int = 64


def measure(
    parameters: int, sizes: dict | None = None, batch_size: int = 6, steps: int = 3, seconds: float = 30.0
) -> Measurement:
    """Seconds of a training step in float32.

    Args:
        parameters: how many ours has.
        sizes: fields of `Sizes` to change.
        batch_size: subjects a step.
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
    """That of all networks but the discriminators, that of D_M, and that of each D_i."""
    moved = [p for name, p in networks.named_parameters() if not name.startswith("discriminators")]
    return [torch.optim.Adam(one, 1e-4) for one in (moved, *(d.parameters() for d in networks.discriminators))]


def step(networks, optimizers, batch_size: int) -> float:
    """One step on noise; returns the loss of all networks but the discriminators."""
    c = networks.sizes
    shape = (batch_size, c.image_size, c.image_size)
    images = [2 * torch.rand(batch_size, 1, *shape[1:]) - 1 for _ in range(c.num_modalities)]
    labels = [F.one_hot(torch.randint(c.num_labels, shape), c.num_labels).movedim(-1, 1).float() for _ in images]

    networks.discriminators.requires_grad_(False).eval()
    loss, masks, drawings = objective(networks, images, labels)
    _move(optimizers[0], loss)

    networks.discriminators.requires_grad_(True).train()
    of_masks, *of_images = networks.discriminators
    every = torch.cat(labels)[:, 1:]
    for made in masks:  # a step of D_M for each modality
        real = every[torch.randperm(len(every))[:batch_size]]
        _move(optimizers[1], judged(of_masks, real, _chosen(made, batch_size)[:, 1:]))
    for image, made, judge, optimizer in zip(images, drawings, of_images, optimizers[2:], strict=True):
        _move(optimizer, judged(judge, image, _chosen(made, batch_size)))
    return loss.item()


def objective(networks, images: list, labels: list):
    """The weighted sum of all terms; and of each modality its masks and its images, of both kinds."""
    anatomy = [networks.anatomy(image, i) for i, image in enumerate(images)]
    moments = [networks.moments(s, x) for s, x in zip(anatomy, images, strict=True)]
    codes = [mean + (0.5 * log_variance).exp() * torch.randn_like(mean) for mean, log_variance in moments]
    of_masks, *of_images = networks.discriminators
    total, masks, drawings = 0, [], []
    for i, (image, truth, code, judge) in enumerate(zip(images, labels, codes, of_images, strict=True)):
        mean, log_variance = moments[i]
        total = total + 0.1 * 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        moved = [networks.transformer(s, anatomy[i]) for j, s in enumerate(anatomy) if j != i]
        found = []
        for s in (anatomy[i], *moved):
            mask, made = networks.segmentor(s), networks.decoder(s, code)
            total = total + 10 * segmentation_error(mask, truth) + (made - image).abs().mean()
            total = total + ((of_masks(mask[:, 1:]) - 1) ** 2).mean() + ((judge(made) - 1) ** 2).mean()
            found.append((mask.detach(), made.detach()))
        prior = torch.randn_like(code)
        again, _ = networks.moments(anatomy[i], networks.decoder(anatomy[i], prior))
        total = total + (again - prior).abs().mean()
        masks.append(torch.cat([mask for mask, _ in found]))
        drawings.append(torch.cat([made for _, made in found]))
    return total, masks, drawings


def segmentation_error(mask, truth):
    """Dice loss of all organs in one ratio, and a hundredth of the cross entropy."""
    organs, true = mask[:, 1:].flatten(1), truth[:, 1:].flatten(1)
    dice = (2 * (organs * true).sum(1) + 1e-6) / (organs.sum(1) + true.sum(1) + 1e-6)
    return (1 - dice).mean() - 0.01 * (truth * mask.clamp(min=1e-7).log()).sum(1).mean()


def judged(discriminator, real, made):
    """A discriminator's loss."""
    return ((discriminator(real) - 1) ** 2).mean() + (discriminator(made) ** 2).mean()


def _chosen(made, number: int):
    return made[torch.randperm(len(made))[:number]]


def _move(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Networks(nn.Module):
    """The system's networks; the discriminators are D_M and each D_i."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        every = range(sizes.num_modalities)
        self.anatomy_encoders = nn.ModuleList(AnatomyEncoder(sizes) for _ in every)
        self.anatomy_decoder, self.modality_encoder = AnatomyDecoder(sizes), ModalityEncoder(sizes)
        self.transformer, self.segmentor, self.decoder = Transformer(sizes), Segmentor(sizes), Decoder(sizes)
        channels = [sizes.num_labels - 1, *(1 for _ in every)]
        self.discriminators = nn.ModuleList(Discriminator(sizes, number) for number in channels)

    def anatomy(self, image, modality: int):
        """s of slices that are all in one modality."""
        return self.anatomy_decoder(self.anatomy_encoders[modality](image, modality), modality)

    def moments(self, anatomy, image):
        """Mean and log variance of z."""
        return self.modality_encoder(torch.cat([anatomy, image], 1)).chunk(2, 1)


class Norm(nn.Module):
    """Batch norm with running statistics of each modality."""

    def __init__(self, sizes: Sizes, channels: int):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(sizes.num_modalities, channels))
        self.register_buffer("variance", torch.ones(sizes.num_modalities, channels))

    def forward(self, x, modality: int):
        return F.batch_norm(x, self.mean[modality], self.variance[modality], self.gain, self.shift, training=True)


class Convolutions(nn.Module):
    """Two convolutions of 3 x 3, each with batch norm and ReLU."""

    def __init__(self, sizes: Sizes, taken: int, given: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(i, given, 3, padding=1) for i in (taken, given))
        self.norms = nn.ModuleList(Norm(sizes, given) for _ in range(2))

    def forward(self, h, modality: int):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = F.relu(norm(layer(h), modality))
        return h


class AnatomyEncoder(nn.Module):
    """A modality's own path: features of four levels, and the last one pooled."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [1, *(sizes.filters * 2**level for level in range(LEVELS))]
        self.stages = nn.ModuleList(Convolutions(sizes, widths[k], widths[k + 1]) for k in range(LEVELS))

    def forward(self, h, modality: int):
        levels = []
        for stage in self.stages:
            levels.append(stage(h, modality))
            h = F.max_pool2d(levels[-1], 2)
        return [*levels, h]


class Raised(nn.Module):
    """A stage of the decoder: features at twice their resolution, and those of the encoder there."""

    def __init__(self, sizes: Sizes, given: int):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(2 * given, given, 3, padding=1), Norm(sizes, given)
        self.convolutions = Convolutions(sizes, 2 * given, given)

    def forward(self, h, skip, modality: int):
        h = self.norm(self.layer(F.interpolate(h, scale_factor=2)), modality)
        return self.convolutions(torch.cat([h, skip], 1), modality)


class AnatomyDecoder(nn.Module):
    """Bottleneck, decoder and head, which all modalities share."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.filters * 2**level for level in range(LEVELS + 1)]
        self.bottleneck = Convolutions(sizes, widths[-2], widths[-1])
        self.stages = nn.ModuleList(Raised(sizes, width) for width in widths[-2::-1])
        self.last = nn.Conv2d(widths[0], sizes.anatomy_channels, 1)

    def forward(self, levels, modality: int):
        h = self.bottleneck(levels[-1], modality)
        for stage, skip in zip(self.stages, levels[-2::-1], strict=True):
            h = stage(h, skip, modality)
        share = torch.softmax(self.last(h), 1)
        hard = F.one_hot(share.argmax(1), share.shape[1]).movedim(-1, 1)
        return share + (hard - share).detach()  # the gradient goes straight through


class ModalityEncoder(nn.Module):
    """z of an anatomy beside its slice: mean and log variance in one."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.anatomy_channels + 1, *(sizes.modality_filters * 2**level for level in range(4))]
        self.layers = nn.ModuleList(nn.Conv2d(widths[k], widths[k + 1], 3, 2) for k in range(4))
        side = sizes.image_size
        for _ in range(4):
            side = (side - 1) // 2
        self.hidden, self.last = nn.Linear(widths[-1] * side**2, 32), nn.Linear(32, 2 * sizes.code_dim)

    def forward(self, h):
        for layer in self.layers:
            h = F.leaky_relu(layer(h), SLOPE)
        return self.last(F.leaky_relu(self.hidden(h.flatten(1)), SLOPE))


class Transformer(nn.Module):
    """T: an anatomy, deformed to another one by a thin-plate spline."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [2 * sizes.anatomy_channels, *[sizes.transformer_filters] * 3]
        self.layers = nn.ModuleList(nn.Conv2d(widths[k], widths[k + 1], 5) for k in range(3))
        side = ((sizes.image_size - 4) // 2 - 4) // 2 - 4
        self.hidden = nn.Linear(widths[-1] * side**2, sizes.transformer_units)
        self.last = nn.Linear(sizes.transformer_units, 2 * sizes.control_points**2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.register_buffer("basis", thin_plate_basis(sizes.image_size, sizes.control_points))
        self.register_buffer("places", _grid(sizes.image_size))

    def forward(self, moving, fixed):
        h = torch.cat([moving, fixed], 1)
        for k, layer in enumerate(self.layers):
            h = F.leaky_relu(layer(h), SLOPE)
            h = F.max_pool2d(h, 2) if k < 2 else h
        offsets = self.last(torch.tanh(self.hidden(h.flatten(1)))).unflatten(1, (-1, 2))
        places = 2 * (self.places + self.basis @ offsets) - 1  # rows and columns from -1 to 1
        places = places.flip(-1).unflatten(1, moving.shape[2:])
        return F.grid_sample(moving, places, align_corners=True)


def thin_plate_basis(size: int, points: int):
    """What each control point's offset adds at each pixel: (size^2, points^2)."""
    control, places = _grid(points).double(), _grid(size).double()

    def terms(at):
        squared = torch.cdist(at, control) ** 2
        return torch.cat([0.5 * squared * squared.clamp(min=1e-30).log(), torch.ones(len(at), 1), at], 1)

    system = torch.zeros(len(control) + 3, len(control) + 3, dtype=torch.float64)
    system[: len(control)] = terms(control)
    system[len(control) :, : len(control)] = terms(control)[:, len(control) :].T
    return (terms(places) @ torch.linalg.inv(system)[:, : len(control)]).float()


def _grid(number: int):
    line = torch.linspace(0, 1, number)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


class Segmentor(nn.Module):
    """h: probabilities of the labels, the background first."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        layers, taken = [], sizes.anatomy_channels
        for _ in range(2):
            layers += [nn.Conv2d(taken, sizes.segmentor_filters, 3, padding=1)]
            layers += [nn.BatchNorm2d(sizes.segmentor_filters), nn.ReLU()]
            taken = sizes.segmentor_filters
        self.layers = nn.Sequential(*layers, nn.Conv2d(taken, sizes.num_labels, 1), nn.Softmax(1))

    def forward(self, anatomy):
        return self.layers(anatomy)


class Decoder(nn.Module):
    """D: slices of an anatomy in the look of a code, by FiLM."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.first = nn.Conv2d(sizes.anatomy_channels, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    **{name: nn.Conv2d(8, 8, 3, padding=1) for name in ("one", "two")},
                    **{name: nn.Linear(sizes.code_dim, 8) for name in ("gain", "shift")},
                }
            )
            for _ in range(4)
        )
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, anatomy, code):
        h = F.leaky_relu(self.first(anatomy), SLOPE)
        for block in self.blocks:
            a = F.leaky_relu(block["one"](h), SLOPE)
            gain, shift = (F.leaky_relu(block[name](code), SLOPE)[:, :, None, None] for name in ("gain", "shift"))
            h = a + F.leaky_relu(block["two"](a) * gain + shift, SLOPE)
        return torch.tanh(self.last(h))


class Discriminator(nn.Module):
    """D_M and D_i: one score of a mask or a slice."""

    def __init__(self, sizes: Sizes, channels: int):
        super().__init__()
        widths = [channels, *(sizes.discriminator_filters * 2**level for level in range(4))]
        strides, side = (2, 2, 2, 1), sizes.image_size
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(widths[k], widths[k + 1], 4, stride)) for k, stride in enumerate(strides)
        )
        for stride in strides:
            side = (side - 4) // stride + 1
        self.last = spectral_norm(nn.Linear(widths[-1] * side**2, 1))

    def forward(self, h):
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
        return self.last(h.flatten(1))
