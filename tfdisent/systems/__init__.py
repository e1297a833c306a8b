"""The five systems, one file each."""
