"""``python -m anymc3d`` is the program ``host``."""

from ._cli import main

if __name__ == "__main__":
    main()
