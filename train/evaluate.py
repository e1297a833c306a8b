"""Measures a trained run again: python -m train.evaluate --run_dir=DIR [--dataset=NAME --num_samples=N --judge=KIND]

The run's metrics.json and report.html are replaced; on another data set they are written to <run_dir>/on-<dataset>.
"""

from tfdisent.commands import evaluate

if __name__ == "__main__":
    evaluate.run(text=__doc__)
