"""What an operator may set, `c.NightingaleHub.*`: each setting, its default and its cost."""

from traitlets import Bool, Dict, Float, Integer, List, Unicode
from traitlets.config import Configurable


class HubTraits(Configurable):
    """Every setting of a hub, as traitlets reads it; what a value must be is checked below it."""

    hub_id = Unicode(
        "nightingale",
        help="Name of this hub, written on everything that it creates in a cloud: 1 to 63 of a-z, "
        "0-9 and -.",
    ).tag(config=True)

    state_dir = Unicode(
        "nightingale-state",
        help="Directory for keys, Terraform states, local instances and the audit log. "
        "Created if missing, so that other users may pass through it to their homes and see "
        "nothing else; losing it loses track of what runs.",
    ).tag(config=True)

    db_url = Unicode(
        help="SQLAlchemy URL of the database, sqlite or postgresql. PostgreSQL is for more "
        "than one machine. Default: a SQLite file in state_dir.",
    ).tag(config=True)

    public_url = Unicode(
        help="Base URL of the hub as instances reach it, through its proxy. "
        "Default: JupyterHub's bind_url and base_url.",
    ).tag(config=True)

    cloud = Unicode("local", help="Cloud on which instances run: local or aws.").tag(config=True)
    region = Unicode("here", help="Region of that cloud.").tag(config=True)

    isolate_users = Bool(
        help="Local cloud: run each researcher's server as a system user of its own. "
        "Without it researchers share one user and can read each other's files. "
        "Default: true when the hub runs as root, else false.",
    ).tag(config=True)

    clouds = Dict(
        help="What each cloud but local needs, by its name. For aws: `zones` (list), `image` "
        "(ami-…), `hub_cidrs` (list: the only addresses that instances may reach), and optionally "
        "`cidr` (of the network), `environment` (credentials and endpoints for provider and SDK; "
        "without it they find their own), `spot` (whether to take what can be taken back), "
        "`instead` (per instance type, others to try where it can't be had in any zone), `then` "
        "(an object with `cloud` and `region`, to go on in where nothing is left and the home is "
        "new; the price stays the one that was shown), `datasets` (per dataset, the `snapshot` "
        "that it is made from and its `disk_gib`) and `identity` (by which an instance is let in: "
        "the `account` that it must be of, and `anchors`, a file with the cloud's certificates).",
    ).tag(config=True)

    orphan_after_s = Float(
        1800.0,
        min=0,
        help="How long an instance with this hub's tag that no record stands for is left alone "
        "before it is removed. Larger: more time to look at it; smaller: less money. "
        "Default: 1800 s.",
    ).tag(config=True)

    terraform_mirror = Unicode(
        help="Folder of Terraform providers, for `filesystem_mirror`. Empty: from their registry.",
    ).tag(config=True)

    terraform_runs = Integer(
        8,
        min=1,
        help="How many Terraform runs a supervisor has at once; more wait in a queue that their "
        "users see. Larger: more starts at once; smaller: less memory. Default: 8.",
    ).tag(config=True)

    provider_broker = Bool(
        True,
        help="Whether Terraform runs share provider processes. Without it each starts its own, "
        "which takes hundreds of MB and seconds of CPU. Default: true.",
    ).tag(config=True)

    launch_attempts = Integer(
        2,
        min=1,
        help="How often a failed launch is tried. Larger: a passing fault of the cloud is "
        "survived; smaller: a researcher learns sooner. Default: 2.",
    ).tag(config=True)

    boot_timeout_s = Float(
        120.0,
        min=1,
        help="How long an instance may take from Terraform's end to an answering server. "
        "Larger: slow images boot; smaller: a dead one is removed sooner. Default: 120 s.",
    ).tag(config=True)

    stop_retry_s = Float(
        5.0,
        min=0.1,
        help="Pause before a failed stop is tried again, doubled up to 5 minutes. Larger: less "
        "load on a cloud in trouble; smaller: fewer seconds that nobody wanted. Default: 5 s.",
    ).tag(config=True)

    quotas = Dict(
        help="How many instances, and which sizes, a person may have at once: an object with "
        "`default`, `groups` by name and `users` by name, each with some of `instances` (a whole "
        "number) and `cpu`, `gpu`, `disk` (lists of sizes). A person's own entry holds alone, else "
        "the most generous of their groups', else the default. Default: no limit.",
    ).tag(config=True)

    idle_timeout_s = Float(
        3600.0,
        min=0,
        help="How long an instance may go unused before it is stopped: no busy kernel, program, "
        "GPU or dataset read, nobody at its pages. 0 never stops one. Larger: fewer pauses are "
        "taken for an end; smaller: less is paid for nothing. Default: 3600 s.",
    ).tag(config=True)

    idle_ceiling_s = Float(
        86400.0,
        min=0,
        help="How long an instance may go unused as far as anybody can tell, where somebody can't: "
        "what is unknown counts as used until then. Larger: longer faults stop no work; smaller: "
        "less is paid for what nobody sees. Default: 86400 s.",
    ).tag(config=True)

    idle_warn_s = Float(
        900.0,
        min=0,
        help="How long before an idle instance is stopped its owner is warned first; the second "
        "warning comes when a third of that is left. At most half of idle_timeout_s. Larger: more "
        "time to say no; smaller: fewer warnings in vain. Default: 900 s.",
    ).tag(config=True)

    keep_limit_s = Float(
        86400.0,
        min=60,
        help="How long an owner may keep an idle instance at a time, with `nightingale extend`. "
        "Larger: long jobs that look idle need no second word; smaller: less is paid for what was "
        "forgotten. Default: 86400 s.",
    ).tag(config=True)

    spool_limit_mib = Integer(
        256,
        min=1,
        help="Audit records an instance may hold unsent before it refuses to open more files. "
        "Larger: longer hub outages are survived; smaller: less is lost with a disk. "
        "Default: 256 MiB.",
    ).tag(config=True)

    exports = Dict(
        key_trait=Unicode(),
        help="Where audit events and findings are handed on to, by a name of yours: "
        "{'siem': {'kind': 'syslog', 'host': …, 'port': …}}. Kinds and keys: docs/exports.md. "
        "Default: nowhere.",
    ).tag(config=True)

    data_owners = Dict(
        key_trait=Unicode(),
        value_trait=List(Unicode()),
        help="Who answers for a dataset: {'ct': ['dora']}. They sign off its findings and see who "
        "read it. For a dataset that is not named here, admins do. Default: none.",
    ).tag(config=True)

    audit_witnesses = List(
        Unicode(),
        help="Places that keep each signed checkpoint of the audit log: folders, or URLs that "
        "fsspec knows (s3://bucket/prefix). They must be out of the reach of this hub's admins; "
        "without one an old copy of the log, put back whole, is not found. Default: none.",
    ).tag(config=True)

    invoice_issuer = Unicode(
        "Nightingale Open Science",
        help="Who asks for the money, as invoices and statements name it, in one line.",
    ).tag(config=True)

    invoice_due_days = Integer(
        30,
        min=0,
        max=366,
        help="Days from an invoice's date to the day on which it is overdue. Larger: customers "
        "have more time; smaller: money comes sooner. Default: 30.",
    ).tag(config=True)

    mail_url_file = Unicode(
        help="File, closed to others, with apprise's address of the mail server, such as "
        "mailtos://user:password@smtp.example.org?from=hub@example.org. Default: none, and nobody "
        "can be told by mail.",
    ).tag(config=True)

    webhook_networks = List(
        trait=Unicode(),
        help="Networks, such as 10.20.0.0/16, that webhooks may reach though they are not public, "
        "by http too. Each is within reach of every researcher. Default: none.",
    ).tag(config=True)

    service_ports = Dict(
        value_trait=Integer(),
        key_trait=Unicode(),
        help="Loopback port per service. Default: a free one each time the hub starts.",
    ).tag(config=True)

    supervisors = Integer(
        1,
        min=1,
        max=16,
        help="How many supervisor processes the hub starts; more than one needs PostgreSQL. "
        "Larger: more instances are launched at a time, and another goes on at once when one dies; "
        "smaller: less memory. Default: 1.",
    ).tag(config=True)
