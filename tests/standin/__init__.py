"""Stand-ins for Terraform providers that no machine of ours has: true to their schemas, no more."""
