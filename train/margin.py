"""Trains codes of anatomy and modality that do not leak: python -m train.margin --dataset=brain_phantom Or what they
are compared with: python -m train.margin --model=conv_na ...

Data sets: brain_phantom, pet_phantom and healthy_phantom (made by themselves), brats, manifest, bids (--raw_dir=DIR)
with two modalities or more. The preset paper takes a slice with one neighbour on each side: --data=neighbours=1.

Where the data have labels or PET, the evaluation also trains small networks from the fused anatomies and from images,
and gives them every subset of the modalities; --judge=inception takes the paper's large ones.

Presets of `MarginConfig`; docs/results/margin.md says what `quick` reaches. The other two have not been measured.

| command | slices | steps |
|---|---|---|
| python -m train.margin --preset=quick | 64 x 64 | 1,200 of 4 slices, 9 minutes on one core |
| python -m train.margin --preset=small | 128 x 128 | 1,200 of 4 slices |
| python -m train.margin --preset=paper --data=neighbours=1 | 192 x 160, 3 slices | 45,000 of 16, needs a GPU |
"""

from tfdisent.commands import train

if __name__ == "__main__":
    train.run("margin", text=__doc__)
