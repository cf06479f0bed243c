"""What runs on an instance: the agent, the local cloud's processes, the command line."""
