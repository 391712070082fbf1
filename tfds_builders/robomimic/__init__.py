"""HDF5 demonstrations of robomimic and RoboCasa."""
