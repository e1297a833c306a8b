"""What is known of the intensities of a volume, and the normalisations that are made of it."""

# The statistics of a volume's foreground that a record holds, in their order.
INTENSITY = (
    "min",
    "max",
    "mean",
    "std",
    "percentile_0.5",
    "percentile_1",
    "percentile_99",
    "percentile_99.5",
)
# By the range of the volume, by its percentiles 0.5 to 99.5, by the range of each slice; or to mean 0 and standard
# deviation 1.
NORMALIZATIONS = ("volume", "percentile", "slice", "zscore")
BOUNDED = ("volume", "percentile", "slice")  # those whose images end in [-1, 1]
