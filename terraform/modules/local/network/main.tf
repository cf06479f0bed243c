# This machine's own loopback: nothing is made.
