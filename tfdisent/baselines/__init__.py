"""The methods that each paper compares its own with, one file per paper."""
