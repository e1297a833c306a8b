"""Trains harmonisation of scanners that keeps the anatomy: python -m train.harmonize --dataset=brain_phantom Or what it
is compared with: python -m train.harmonize --model=cyclegan ...

Data sets: brain_phantom, retina_phantom (made by themselves), ixi, msseg, retouch, manifest, bids (--raw_dir=DIR), with
two scanners or more as domains and label maps. The first two domains are source and target; others by --set=source=NAME
--set=target=NAME, as IOP and HH of ixi, which are the paper's. From several scanners to one by one command:
--sources=NAME,NAME, or all, and --set=target=NAME, which trains a model for each pair, as the paper does, one after the
other in RUN/from-NAME; `python -m train.travelling --run_dir=RUN` measures them as one method.

Presets of `HarmonizeConfig`. None has been trained to its end yet; docs/results/harmonize.md has a trial of quick, in
which histogram matching, without any network, does better.

| command | slices | steps |
|---|---|---|
| python -m train.harmonize --preset=quick | 64 x 64 | 1,500 of 8 slices of each scanner |
| python -m train.harmonize --preset=small | 128 x 128 | 2,500 of 4, networks of the paper's width |
| python -m train.harmonize --preset=paper | 128 x 128 | 200,000 of 4, needs a GPU |
"""

from tfdisent.commands import train

if __name__ == "__main__":
    train.run("harmonize", text=__doc__)
