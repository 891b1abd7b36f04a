"""The hardware's arithmetic, one file per unit."""

from hfp8sim.units.profile import Profile, get_profile, profiles, register_profile

__all__ = ["Profile", "get_profile", "profiles", "register_profile"]
