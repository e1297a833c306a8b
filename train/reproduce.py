"""Repeats a table or a figure of a paper: python -m train.reproduce --paper=drai --table=3"""

from absl import app, flags

from tfdisent.experiment import reproduce, run


def main(argv):
    """Entry point of the command line."""
    reproduce.main(argv)


if __name__ == "__main__":
    flags.adopt_module_key_flags(run)
    flags.adopt_module_key_flags(reproduce)
    app.run(main)
