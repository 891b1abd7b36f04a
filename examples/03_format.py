"""A format of your own, and how it does as the operand of a real network.

python examples/03_format.py
"""

from __future__ import annotations

import hfp8sim as hs


def main() -> None:
    mine = hs.FloatFormat("mine-134", exponent_bits=3, fraction_bits=4, bias=3, special="none")
    hs.register_format(mine)  # so that programs of the machine can name it
    print(f"{mine.name}: {mine.bits} bits, {mine.min_positive:g} to {mine.max:g}")
    base = hs.get_profile("hfp8")
    for profile in (base, base.replace(name="mine", a_format=mine, b_format=mine)):
        report = hs.simulate("digits-cnn", profile=profile, phases=["fwd"], calibrate="max")
        print(f"{profile.name:5} lowest SQNR {report.total['sqnr_db']:.1f} dB")


if __name__ == "__main__":
    main()
