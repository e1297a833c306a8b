"""Prepared data sets: what a record holds, and how a folder of shards becomes batches. Needs TensorFlow."""

from tfdisent.data.pipeline import annotated_subjects, as_arrays, load
from tfdisent.data.records import Feature, Manifest

__all__ = ["Feature", "Manifest", "annotated_subjects", "as_arrays", "load"]
