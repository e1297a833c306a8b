"""Evaluates a trained run again: python -m train.evaluate --run_dir=DIR"""

from absl import app, flags

from tfdisent.experiment import evaluate, run


def main(argv):
    """Entry point of the command line."""
    evaluate.main(argv)


if __name__ == "__main__":
    flags.adopt_module_key_flags(run)
    flags.adopt_module_key_flags(evaluate)
    app.run(main)
