"""The demo: a whole hub on localhost, its real data, and the researcher's journey as a check."""
