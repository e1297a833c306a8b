"""TC-MGAN's training step in plain PyTorch, for comparison: its networks' sizes, its order of work, its optimizers.

Written for this; it computes what the public code computes in a step, at the same cost, and learns nothing here: the
slices are noise. Discriminator with gradient penalty, generator, segmentor; 128 x 128, three targets.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import Measurement
from benchmarks.torch_step import timed

PARAMETERS = (41_822_593, 11_203_520, 6_129_025)  # of the public code's three networks
SIZE, TARGETS = 128, 3


def measure(batch_size: int = 8, steps: int = 10, seconds: float = 20.0) -> Measurement:
    """Seconds of a training step in float32.

    Args:
        batch_size: slices a step.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.

    Raises:
        RuntimeError: the networks are not of the size of the public ones.
    """
    torch.manual_seed(0)
    networks = Generator(), Discriminator(), Segmentor()
    counted = tuple(sum(p.numel() for p in network.parameters()) for network in networks)
    if counted != PARAMETERS:
        raise RuntimeError(f"Expected networks of {PARAMETERS} parameters, built {counted}.")
    optimizers = [torch.optim.Adam(network.parameters(), 2e-4) for network in networks]
    return timed(lambda: step(*networks, *optimizers, batch_size), steps, seconds)


def step(generator, discriminator, segmentor, g_optimizer, d_optimizer, s_optimizer, size) -> None:
    """One step on noise."""
    x, y = (2 * torch.rand(size, 1, SIZE, SIZE) - 1 for _ in range(2))
    mask = (torch.rand(size, 1, SIZE, SIZE) > 0.5).float()
    code = torch.eye(TARGETS)[torch.randint(TARGETS, (size,))]

    scores, classes = discriminator(y, x)
    loss = 20 * _cross_entropy(classes, code) - _summed(scores)
    made = generator(x, code).detach()
    loss = loss + _summed(discriminator(made, x)[0])
    share = torch.rand(size, 1, 1, 1)
    between = (share * y + (1 - share) * made).requires_grad_(True)
    scores, _ = discriminator(between, x)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    loss = loss + 100 * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    _move(d_optimizer, loss)

    made = generator(x, code)
    scores, classes = discriminator(made, x)
    loss = 20 * _cross_entropy(classes, code) - _summed(scores)
    loss = loss + 0.1 * (y - made).abs().sum((1, 2, 3)).mean()
    loss = loss + _dice_loss(segmentor(made, code), mask)
    _move(g_optimizer, loss)

    made = generator(x, code).detach()
    loss = 0.7 * _dice_loss(segmentor(made, code), mask)
    _move(s_optimizer, loss + 0.3 * _dice_loss(segmentor(y, code), mask))


def _move(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _summed(scores):
    return scores.sum((1, 2, 3)).mean()


def _cross_entropy(classes, code):
    return F.binary_cross_entropy_with_logits(classes, code, reduction="sum") / len(code)


def _dice_loss(found, mask):
    found, mask = found.flatten(1), mask.flatten(1)
    shared, sizes = (found * mask).sum(1), found.sum(1) + mask.sum(1)
    return 1 - ((2 * shared + 1) / (sizes + 1)).mean()


def _with_code(image, code):
    return torch.cat([image, code[:, :, None, None].expand(-1, -1, SIZE, SIZE)], 1)


class Generator(nn.Module):
    """The U-Net of pix2pix with seven levels."""

    def __init__(self):
        super().__init__()
        down = [1 + TARGETS, 64, 128, 256, 512, 512, 512, 512]
        taken, given = [512, 1024, 1024, 1024, 512, 256, 128], [512, 512, 512, 256, 128, 64, 1]
        self.down = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in itertools.pairwise(down))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in zip(taken, given, strict=True))

    def forward(self, x, code):
        h, levels = _with_code(x, code), []
        for k, layer in enumerate(self.down):
            h = layer(F.leaky_relu(h, 0.2) if k else h)
            h = F.instance_norm(h) if 0 < k < len(self.down) - 1 else h
            levels.append(h)
        for k, layer in enumerate(self.up, start=2):
            h = layer(F.relu(h))
            if k <= len(levels):
                h = torch.cat([levels[-k], F.instance_norm(h)], 1)
        return torch.tanh(h)


class Discriminator(nn.Module):
    """Scores of patches and logits of the modality, of a slice beside its source."""

    def __init__(self):
        super().__init__()
        layers = []
        for taken, given in itertools.pairwise([2, 64, 128, 256, 512, 1024]):
            layers += [nn.Conv2d(taken, given, 4, 2, 1), nn.LeakyReLU(0.01)]
        self.trunk = nn.Sequential(*layers)
        self.scores = nn.Conv2d(1024, 1, 3, 1, 1, bias=False)
        self.classes = nn.Conv2d(1024, TARGETS, 4, bias=False)

    def forward(self, image, source):
        h = self.trunk(torch.cat([image, source], 1))
        return self.scores(h), self.classes(h).flatten(1)


class Segmentor(nn.Module):
    """A small U-Net that is told the modality."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in itertools.pairwise([1 + TARGETS, 64, 128, 256, 512])
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(i, o, 3, 2, 1, 1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in ((512, 512), (768, 256), (384, 128))
        )
        self.last = nn.ConvTranspose2d(192, 1, 3, 2, 1, 1)

    def forward(self, image, code):
        h, levels = _with_code(image, code), []
        for layer in self.down:
            h = layer(h)
            levels.append(h)
        for layer, level in zip(self.up, levels[-2::-1], strict=True):
            h = torch.cat([layer(h), level], 1)
        return torch.sigmoid(self.last(h))
