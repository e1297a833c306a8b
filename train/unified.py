"""Trains the unified framework for translation between modalities: python -m train.unified --dataset=brain_phantom Or
what it is compared with: python -m train.unified --model=pix2pix ...

Data sets: brain_phantom (made by itself), brats, manifest, bids (--raw_dir=DIR) with two modalities or more. Volumes
are prepared at their own size, or cut to --data=size=192x160, and resized when they are read: --set=image_size=128.

Presets of `UnifiedConfig`; results are SSIM inside the brain on brain_phantom, mean of all pairs.

| command | slices | time on two CPU cores | result |
|---|---|---|---|
| python -m train.unified --preset=quick | 64 x 64 | 8 minutes, on one core | 0.84 (best affine map: 0.65) |
| python -m train.unified --preset=small | 128 x 128 | 35 minutes, beside other work | 0.85 (0.65), lesions better |
| python -m train.unified --preset=paper | 128 x 128 | needs a GPU | the paper's setting; not measured |
"""

from tfdisent.commands import train

if __name__ == "__main__":
    train.run("unified", text=__doc__)
