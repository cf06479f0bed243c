"""What a researcher sees inside JupyterLab."""
