"""Prepares a data set: python -m datasets.build --dataset=NAME [--data_dir=DIR --raw_dir=DIR --<option>=VALUE ...]

Phantoms are drawn; other data need --raw_dir. --dataset=help lists the data sets, and --help their options too.

  python -m datasets.build --dataset=skin_phantom --size=32
  python -m datasets.build --dataset=brats --dry_run                   where to get it, what the folder must look like
  python -m datasets.build --dataset=brats --raw_dir=DIR --dry_run     what was found, and what is missing
  python -m datasets.build --dataset=brats --raw_dir=DIR --on_error=skip --verify

The command is `tfdisent prepare`; it lies in `tfdisent.commands.prepare`.
"""

from tfdisent.commands import prepare

if __name__ == "__main__":
    prepare.run()
