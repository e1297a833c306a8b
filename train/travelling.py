"""Compares harmonisations on subjects who were scanned on several scanners: python -m train.travelling
--run_dir=RUN,RUN --dataset=manifest --raw_dir=travellers.csv

`tfdisent travelling --help` says what the data must be; with brain_phantom, whose test subjects are on all scanners,
--run_dir alone is enough. Doing nothing and normalisations of intensities are always among what is compared.
"""

from tfdisent.commands import travelling

if __name__ == "__main__":
    travelling.run(text=__doc__)
