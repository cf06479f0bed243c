"""The rules as data: each threshold once, each set of them under a version that never changes.

A finding carries the version that made it. A change is a new version, which is run over the stored
segments (`backtest`) before it becomes `CURRENT`.
"""

from dataclasses import dataclass

MIN_PER_HOUR = 60
MIN_PER_DAY = 24 * MIN_PER_HOUR
MIN_PER_WEEK = 7 * MIN_PER_DAY
GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Rules:
    """One version's thresholds; shares are of 1, durations minutes, sizes bytes."""

    version: int
    # R1 bulk
    bulk_hour_z: float = 6.0
    bulk_hour_bytes: int = 5 * GIB
    bulk_day_share: float = 0.25
    bulk_day_bytes: int = 50 * GIB
    # R2 fan-out
    fan_out_files: int = 50
    fan_out_new_share: float = 0.8
    # R3 sweep
    sweep_share: float = 0.6
    sweep_full_share: float = 0.9
    sweep_new_share: float = 0.7
    sweep_least_files: int = 50
    part_least_share: float = 0.05  # of the dataset, for one of several who share a sweep
    part_most_overlap: float = 0.2
    # R4 drip: what a day adds is at most `drip_cap`, less `drip_slack`
    drip_day_share: float = 0.005
    drip_cap: float = 4.0
    drip_slack: float = 0.5
    drip_sum: float = 8.0
    drip_least_days: int = 3
    # R5 tools
    tool_bytes: int = GIB
    tool_files: int = 100
    tool_minutes: int = 10
    # R6 copy-out, and what may be taken out at all in a day
    out_share: float = 0.5
    out_least_bytes: int = 50 * MIB
    out_minutes: int = 15
    out_day_bytes: int = GIB
    # R7: at an hour or a place that is none of theirs, R1, R2 and R5 take this share of a threshold
    off_pattern_share: float = 0.5
    off_pattern_hour_share: float = 0.02
    off_pattern_least_days: int = 10
    # What tells an epoch from a sweep: most of it is read again
    epoch_again_share: float = 0.5
    grace_least: int = 15
    grace_most: int = 6 * MIN_PER_HOUR
    ordered_share: float = 0.9
    # A1
    late_minutes: int = 15
    ahead_minutes: int = 5
    untold_bytes: int = 500 * MIB  # in an hour; what an upload of 10 GiB is answered with is less
    told_minutes: int = 15


RULES = {1: Rules(version=1)}
CURRENT = 1

# Programs whose only use is to copy or pack, by the file name that the kernel says. A copy under
# another name is left to R1, R3 and R4, which look at what is read and not at who reads.
TOOLS = frozenset(
    "7z 7za 7zr aria2c aws azcopy bsdtar bzip2 cp cpio curl dd gcloud gsutil gzip install lftp mc "
    "ncftpput pigz rclone restic rsync s3cmd s5cmd scp sftp tar wget xz zip zstd".split()
)
