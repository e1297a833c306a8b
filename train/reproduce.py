"""Repeats a table or a figure of a paper: python -m train.reproduce --paper=drai --table=3 --seeds=3

It trains what the table or figure compares, one model and seed after the other, and prints it beside the paper's
numbers. Runs lie in <run_dir>/<dataset>-<preset>/<model>-seed<seed> and serve all tables and figures: what is trained
and evaluated is not repeated, and what was stopped continues. The result is written to <run_dir>/table-3.md and
table-3.html after every run, so that it can be watched.

| paper | tables | figures | phantoms in place of its data |
|---|---|---|---|
| drai | 1 to 6 | 10 to 19 | nodule_phantom for LIDC, skin_phantom for HAM10000 |
| unified | 1, 2 | 2, 3 | brain_phantom for BraTS'18 |
| margin | 1, 2 | 2 to 5 | brain_phantom for BraTS 2020, healthy_phantom for NCANDA, pet_phantom for ZeroDose |
| harmonize | 4, 5 | 6 to 9 | brain_phantom for IXI, retina_phantom for RETOUCH |
| mmsdnet | 1 to 3 | 3 to 7 | cardiac_phantom for ERI, abdomen_phantom for CHAOS |

--dataset=lidc --raw_dir=DIR takes the real data. The flags of training (--preset, --steps, ...) are those of every run.
"""

from tfdisent.commands import reproduce

if __name__ == "__main__":
    reproduce.run(text=__doc__)
