"""Trains DRAI: python -m train.drai --dataset=skin_phantom --preset=quick
Or what it is compared with: python -m train.drai --model=dcinfogan ...

Data sets: skin_phantom, nodule_phantom (made by themselves), ham10000, lidc, lidc_patches (--raw_dir=DIR).

Presets of `DRAIConfig`; results are on skin_phantom, seed 0: generated images that carry their condition, hybrids that
carry the class of the content image, and R2 of the hybrid's lesion position with the style image.

| command | images | time on two CPU cores | result |
|---|---|---|---|
| python -m train.drai --preset=quick | 32 x 32 | 6 minutes | 0.985, 0.984, 0.969 |
| python -m train.drai --preset=small | 64 x 64 | 20 minutes | 0.979, 0.946, 0.923 |
| python -m train.drai --preset=paper | 64 x 64 | needs a GPU | the paper's setting; not measured |
"""

from tfdisent.commands import train

if __name__ == "__main__":
    train.run("drai", text=__doc__)
