"""python -m tfdisent VERB: the same as the console script `tfdisent`."""

from tfdisent.commands import main

if __name__ == "__main__":
    main.run()
