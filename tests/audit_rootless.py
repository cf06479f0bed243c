"""What an ordinary user does with an audit mount of their own; run as that user, in one place.

Prints what came of it as JSON. It is a program: a test starts it where /dev/fuse may be opened.
"""

import errno
import json
import os
import sys
from pathlib import Path

from tests.audit_mount import AuditMount, fail_of


def main(place: Path) -> None:
    mount = AuditMount(place)
    (mount.data / "f").write_bytes(b"pixels")
    announced = [mount.start()["how"]]
    try:
        read = (mount.top / "f").read_bytes().decode()
        written = fail_of(os.open, mount.top / "f", os.O_WRONLY)
        mount.kill()
        dead = fail_of(os.statvfs, mount.top) == errno.ENOTCONN
        announced.append(mount.start()["how"])
        again = (mount.top / "f").read_bytes().decode()
        code = mount.stop()
    finally:
        mount.clean()
    found = {
        "how": announced,
        "read": [read, again],
        "written": written,
        "dead": dead,
        "code": code,
        "uids": sorted({event["uid"] for event in mount.events()}),
        "opens": len(mount.events("open")),
        "programs": sorted({Path(event["exe"]).name for event in mount.events()}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
