"""Studies: claims of the training papers, measured again at a size that a laptop takes.

    from hfp8sim.training.studies.registry import get_study
    print(get_study("updates").run(quick=True))

Each file but `frame`, `registry`, `runs`, `inference` and `quantised` has one study. A study that does not show its claim at this
size says so.
"""
