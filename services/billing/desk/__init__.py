"""What people may ask of billing: each verb once, for the API, the pages and the command line.

A verb reads a request's fields, decides who may ask, and calls what does it.
"""
