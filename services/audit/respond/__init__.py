"""What follows from findings: incidents, the rungs that they climb, bypasses and reviews."""
