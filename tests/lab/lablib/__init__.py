"""What the scripts of the emulated host share."""
