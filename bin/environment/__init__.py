"""What every command in bin/ needs before it runs: packages, a virtual environment, a proxy.

Standard library only: it runs before anything is installed.
"""
