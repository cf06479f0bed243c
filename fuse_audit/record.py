"""The lines of the audit log: what was opened, read, released or denied, by whom.

A line is one JSON object. The spool begins it with its version and sequence number; here is the
rest. Lines are put together from pieces that were encoded once, at open, for one is made at
every read.
"""

import functools
import json

from nightingale_hub.text import format_name as format_name

_EVENT = (
    b'"ts":%d,"act":"%b","user":%b,"uid":%d,%b,%b,'
    b'"off":%d,"len":%d,"dur":%d,"flags":%d,"rc":%d,"pol":"%b"%b}'
)

# An epoch opens each file of a dataset once, and the next one does so again.
_KNOWN_PATHS = 1 << 16

OPEN = b"open"
READ = b"read"
RELEASE = b"release"
DENIED = b"denied"
EGRESS = b"egress"


def encode_text(text: str) -> bytes:
    """Return *text* as a JSON string."""
    return json.dumps(text, ensure_ascii=False).encode()


def encode_process(pid: int, ppid: int, executable: bytes) -> bytes:
    """Return the fields that say which process: its thread group, its parent, its program."""
    exe = encode_text(format_name(executable))
    return b'"pid":%d,"ppid":%d,"exe":%b' % (pid, ppid, exe)


def encode_origin(command_sha256: str, cgroup: bytes, kernel_id: str) -> bytes:
    """Return the fields that say how that process came to be; what is not known is left out.

    They begin with a comma: they stand behind all others.
    """
    fields = {"cmd": command_sha256, "cg": format_name(cgroup), "kid": kernel_id}
    return b"".join(
        b',"%b":%b' % (name.encode(), encode_text(text)) for name, text in fields.items() if text
    )


def encode_opener(uid: int, process: bytes) -> bytes:
    """Return the fields that say who opened what another reads; *process* is the opener's."""
    pid = process.split(b",", 1)[0].partition(b":")[2]
    return b',"ouid":%d,"opid":%b' % (uid, pid)


@functools.lru_cache(_KNOWN_PATHS)
def _encode_path(dataset: str, path: bytes) -> bytes:
    return b'"ds":%b,"path":%b' % (encode_text(dataset), encode_text(format_name(path)))


def encode_file(dataset: str, path: bytes, fid: int, ino: int) -> bytes:
    """Return the fields that say which file, and which open of it (*fid*)."""
    return b'%b,"fid":%d,"ino":%d' % (_encode_path(dataset, path), fid, ino)


def format_event(
    at_us: int,
    act: bytes,
    user: bytes,
    uid: int,
    process: bytes,
    file: bytes,
    *,
    offset: int = 0,
    length: int = 0,
    took_us: int = 0,
    flags: int = 0,
    errno: int = 0,
    policy: bytes,
    more: bytes = b"",
) -> bytes:
    """Return one event without its sequence number; *user*, *process*, *file* are encoded.

    *more* are further fields, encoded, each behind a comma.
    """
    return _EVENT % (
        at_us, act, user, uid, process, file, offset, length, took_us, flags, errno, policy, more,
    )  # fmt: skip
