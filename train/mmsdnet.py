"""Trains what aligns, fuses and segments two misaligned modalities: python -m train.mmsdnet --dataset=abdomen_phantom

Or what it is compared with: python -m train.mmsdnet --model=unet_both --target_annotations=0.125

Data sets: abdomen_phantom and cardiac_phantom (made by themselves), chaos (--raw_dir=DIR --data=candidates=1). The last
modality is the target: --target_annotations=1.0, 0.5, 0.25, 0.125 or 0 is the share of the training subjects whose
labels of it are read, listed in RUN/splits; the other modalities are always labelled.

Pairs that no expert made: --data=reference=T2 --data=shuffled=2 draws the T1 slice of each T2 slice from those up to
two positions away; with --data=candidates=3 and --set=candidates=3 beside it, three are drawn, the right one among
them, and the system weights them.

One run of the preset quick with all labels (seed 0, abdomen_phantom) ends with Dice of volumes .91 fused, .89 deformed
and .92 of the target alone, where copied labels have .68; the error of the field is .22 of the displacement. See
docs/results/mmsdnet.md, also for fewer labels, where registration without any learning (.92) is not beaten.

| command | slices | steps |
|---|---|---|
| python -m train.mmsdnet --preset=quick | 64 x 64 | 1,500 of 6 slices |
| python -m train.mmsdnet --preset=small | 128 x 128 | 5,000 of 6 slices |
| python -m train.mmsdnet --preset=paper | 192 x 192 | 50,000 of 6, needs a GPU |
"""

from tfdisent.commands import train

if __name__ == "__main__":
    train.run("mmsdnet", text=__doc__)
