"""`nightingale audit`: checks a bundle of the audit log, with no hub, and hands out the checker."""

import argparse
import json
import zipapp
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nightingale_hub
from nightingale_hub.errors import BadInput, NotProven
from nightingale_hub.proof.manifest import verify_manifest
from nightingale_hub.proof.note import Key
from nightingale_hub.proof.verify import format_verdict, verify_file
from nightingale_hub.text import visible


def add_commands(audit: argparse.ArgumentParser) -> None:
    """Give the parser of `nightingale audit` its commands."""
    commands = audit.add_subparsers(dest="audit_command", metavar="ACTION", required=True)
    verify = commands.add_parser("verify", help="check a bundle of the log, offline")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.add_argument("--witness", type=Path, metavar="FOLDER", help="what a witness kept")
    verify.add_argument("--key", help="the log's key, as the witness knows it")
    verify.set_defaults(run_audit=run_verify)
    manifest = commands.add_parser("manifest", help="check what a run read, as the log signed it")
    manifest.add_argument("file", type=Path, metavar="FILE")
    manifest.add_argument("--key", required=True, help="the log's key")
    manifest.set_defaults(run_audit=run_manifest)
    verifier = commands.add_parser("verifier", help="write the checker alone, as one file")
    verifier.add_argument("file", type=Path, metavar="FILE")
    verifier.set_defaults(run_audit=run_verifier)


def run_audit(options: argparse.Namespace, _console: None) -> int:
    """Run the command that was named and return its exit code; it asks no hub."""
    return int(options.run_audit(options))


def run_verify(options: argparse.Namespace) -> int:
    """Print the verdict; return 0 when the log holds, that of `NotProven` when it was edited."""
    try:
        verdict = verify_file(options.bundle, options.witness, options.key)
    except (OSError, ValueError) as error:
        raise BadInput(str(error)) from error
    print(json.dumps(asdict(verdict)) if options.json else format_verdict(verdict))
    return NotProven.exit_code if verdict.problems else 0


def run_manifest(options: argparse.Namespace) -> int:
    """Print what a read manifest says; raises `NotProven` unless the log's key signed it."""
    try:
        data, key = options.file.read_bytes(), Key.parse(options.key)
    except (OSError, ValueError) as error:
        raise BadInput(str(error)) from error
    try:
        manifest = verify_manifest(data, key)
    except ValueError as error:
        raise NotProven(f"{options.file}: {error}") from error
    if options.json:
        print(json.dumps(manifest))
    else:
        count, size = len(manifest["files"]), sum(each["bytes"] for each in manifest["files"])
        print(
            f"verified: instance {visible(manifest['instance'])} of {visible(manifest['owner'])} "
            f"read {size:,} bytes of {count:,} files"
        )
    return 0


def run_verifier(options: argparse.Namespace) -> int:
    """Write the checker as one file that Python and `cryptography` run."""
    package = Path(nightingale_hub.__file__).parent
    with TemporaryDirectory() as folder:
        target = Path(folder, "nightingale_hub", "proof")
        target.mkdir(parents=True)
        for file in sorted((package / "proof").glob("*.py")):
            (target / file.name).write_bytes(file.read_bytes())
        (target.parent / "__init__.py").write_text("")
        main: dict[str, Any] = {"main": "nightingale_hub.proof.__main__:run"}
        try:
            zipapp.create_archive(folder, options.file, "/usr/bin/env python3", **main)
        except OSError as error:
            raise BadInput(f"{options.file} cannot be written: {error.strerror}") from error
    print(f"wrote {options.file}; run it as: python {options.file} BUNDLE --witness FOLDER")
    return 0
