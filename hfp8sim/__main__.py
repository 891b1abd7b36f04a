"""`python -m hfp8sim` is `hfp8sim`."""

from hfp8sim.cli import main

main()
