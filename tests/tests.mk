# The tests; included by the Makefile.
