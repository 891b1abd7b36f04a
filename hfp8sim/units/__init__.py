"""The hardware's arithmetic, one file per unit."""

from hfp8sim.units.gemm import Events, gemm
from hfp8sim.units.profile import PHASES, Profile, get_profile, profiles, register_profile

__all__ = ["PHASES", "Events", "Profile", "gemm", "get_profile", "profiles", "register_profile"]
