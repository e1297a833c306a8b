"""Commands that train and evaluate the systems; run from a checkout."""
