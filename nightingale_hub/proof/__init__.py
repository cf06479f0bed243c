"""The tamper-evident log as anyone can check it: needs Python and `cryptography`, no hub."""
