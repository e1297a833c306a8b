"""Commands of a checkout that prepare data sets; the builders are in `tfdisent.datasets`."""
