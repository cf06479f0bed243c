"""Pages for researchers and admins, and the API behind the command line."""
