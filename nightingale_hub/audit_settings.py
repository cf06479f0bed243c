"""The settings of `c.NightingaleHub` that say when an audit mount closes."""

import os

from traitlets import Bool, Float, Integer, Unicode, default
from traitlets.config import Configurable

from nightingale_hub.instance.egress import find_nft

# What the rules for medical data ask for (45 CFR 164.316(b)(2)(i)); no setting goes below it.
KEEP_LEAST_YEARS = 6


class AuditSettings(Configurable):
    """When data is refused because nobody would hear of the read."""

    spool_full_percent = Integer(
        80,
        min=1,
        max=100,
        help="How full that may be before new files are refused. Larger: longer hub outages are "
        "survived; smaller: more room is left for files that are open already. Default: 80.",
    ).tag(config=True)

    audit_refuse_opens_after_s = Float(
        60.0,
        min=1,
        help="How long an audit record may wait for the hub before the instance opens no more "
        "files. Larger: longer hub outages go unnoticed; smaller: less is read unseen by the hub. "
        "Default: 60 s.",
    ).tag(config=True)

    audit_refuse_reads_after_s = Float(
        900.0,
        min=1,
        help="How long until files that are open cannot be read either. Larger: training "
        "survives longer outages; smaller: less is read unseen by the hub. Default: 900 s.",
    ).tag(config=True)

    audit_stop_after_s = Float(
        3600.0,
        min=1,
        help="How long until the instance is stopped, its records kept. Larger: it outlives "
        "longer outages; smaller: less is spent on an instance without data. Default: 3600 s.",
    ).tag(config=True)

    audit_hot_months = Integer(
        3,
        min=1,
        help="How many whole months of reads, beside the current one, are searched in the "
        "database; older ones are in Parquet files. Larger: older reads are found faster; smaller: "
        "the database stays smaller. Default: 3.",
    ).tag(config=True)

    audit_cold = Unicode(
        "",
        help="Where the Parquet files of older months are: a folder, or a URL that fsspec knows "
        "(s3://bucket/prefix). Default: a folder of the state directory.",
    ).tag(config=True)

    audit_keep_years = Integer(
        6,
        min=KEEP_LEAST_YEARS,
        help="How many years each record of a read is kept, at least. Larger: more storage; it "
        "cannot be smaller than 6. Default: 6.",
    ).tag(config=True)

    count_egress = Bool(
        help="Count what researchers' processes send, by destination, in the audit log; data is "
        "served only while that works. The same rules keep them from NFS, so in a cloud no data is "
        "served without. It needs nftables and isolate_users. Default: true when the hub runs as "
        "root and nft is installed, else false.",
    ).tag(config=True)

    @default("count_egress")
    def _default_count_egress(self) -> bool:
        return os.geteuid() == 0 and find_nft() is not None
