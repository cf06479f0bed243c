"""Brings each instance from its actual state to the wanted one, through Terraform."""
