"""python -m tfdisent.apply: the same as `tfdisent apply`."""

from tfdisent.commands import apply

if __name__ == "__main__":
    apply.run()
