"""The named cases: what they share. Runs in dom0; standard library only."""
import os
import sys

# On the build machine the encoder of messages is beside the tests without
# Xen; in dom0 it was copied next to tap.py.
sys.path.append(os.path.realpath(os.path.join(
    os.path.dirname(__file__), "../../integ")))
