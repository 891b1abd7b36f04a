"""Speed, as ratios in one run."""

import os

# Processes that are timed find the bytecode of modules, as a user's do, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
