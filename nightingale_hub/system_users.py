"""Which system user a researcher's server runs as: one for each home of each hub.

Keyed by the hub's own secret, so that two hubs on one machine share no user and neither can be
made to remove the other's.
"""

import hmac
import re

NAME = re.compile(r"nh-[0-9a-f]{16}")


def name_system_user(key: bytes, home_name: str) -> str:
    """Return the system user of the home directory named *home_name* in the hub of *key*."""
    return f"nh-{hmac.digest(key, b'system user ' + home_name.encode(), 'sha256').hex()[:16]}"
