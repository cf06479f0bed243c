"""Pages for researchers and admins, and the API that the command line and Lab ask.

It shows what the record says and what billing, metering and audit answer; it counts nothing
itself, and it changes nothing but by asking the supervisor for a stop.
"""
