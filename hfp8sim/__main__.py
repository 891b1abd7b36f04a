"""The console script `hfp8sim`; `python -m hfp8sim` is the same."""

import gc


def main() -> None:
    """Load the command line and run it."""
    # What modules and their declarations create is kept. The collector is on again when a command starts.
    gc.disable()
    from hfp8sim.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
