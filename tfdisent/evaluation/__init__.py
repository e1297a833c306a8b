"""Evaluation: each paper's protocol, from a trained system to its metrics and figures; one file a system."""
