"""The database schema, one for the hub's spawner and the five services; a module is a room.

Who may write a table stands beside it; everyone may read.
"""
