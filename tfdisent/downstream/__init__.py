"""Networks that judge or use what the systems make: classifiers, regressors and segmentors."""
