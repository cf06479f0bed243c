"""Runs Terraform so that a run outlives whoever asked for it."""
