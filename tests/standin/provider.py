"""A provider that knows a real one's schema and nothing of its cloud: what is applied, exists.

Terraform itself finds what is misspelt, missing or of a wrong type, by the schema. What a cloud
would fill in gets a made-up value that names it. `python -m tests.standin.provider azurerm` is
started by Terraform like any provider.
"""

import base64
import datetime
import json
import os
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.standin.protocol import CALLS, CLASSES

SCHEMAS = Path(__file__).parent / "schemas"
UNKNOWN = msgspec.msgpack.Ext(0, b"\x00")
NESTINGS = {"single": 1, "list": 2, "set": 3, "map": 4}
# What the modules take apart, so it has to look real.
LIKE_REAL = {
    "email": "{name}@project.iam.gserviceaccount.example",
    "uri": "https://{name}.example",
    "export_full": "10.64.128.5:/{name}",
}


class Provider(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    """Answers each call of the protocol by the schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.resources = {kind: each["block"] for kind, each in schema["resource_schemas"].items()}

    def service(self, details: Any) -> Any:
        call = details.method.rpartition("/")[2]
        if call not in CALLS:
            return None
        work: Any = getattr(self, f"do_{call}", lambda _request: {})

        def answer(request: Any, _context: Any) -> Any:
            return CLASSES[f"{call}.Response"](**work(request))

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=CLASSES[f"{call}.Request"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def do_GetProviderSchema(self, _request: Any) -> dict[str, Any]:
        schemas = {
            kind: CLASSES["Schema"](block=to_block(block)) for kind, block in self.resources.items()
        }
        return {
            "provider": CLASSES["Schema"](block=to_block(self.schema["provider"]["block"])),
            "provider_meta": CLASSES["Schema"](block=CLASSES["Block"]()),
            "resource_schemas": schemas,
            "server_capabilities": CLASSES["Capabilities"](get_provider_schema_optional=True),
        }

    def do_UpgradeResourceState(self, request: Any) -> dict[str, Any]:
        return {"upgraded_state": CLASSES["DynamicValue"](json=request.raw_state.json)}

    def do_ReadResource(self, request: Any) -> dict[str, Any]:
        return {"new_state": request.current_state, "private": request.private}

    def do_PlanResourceChange(self, request: Any) -> dict[str, Any]:
        proposed = decode(request.proposed_new_state)
        if proposed is not None:
            proposed = fill(self.resources[request.type_name], proposed, lambda *_: UNKNOWN)
        return {"planned_state": encode(proposed), "legacy_type_system": True}

    def do_ApplyResourceChange(self, request: Any) -> dict[str, Any]:
        planned = decode(request.planned_state)
        if planned is not None:
            name = str(planned.get("name") or request.type_name)

            def make(attribute: str, kind: Any) -> Any:
                return make_up(kind, attribute, name)

            planned = fill(self.resources[request.type_name], planned, make)
        return {"new_state": encode(planned), "legacy_type_system": True}


def to_block(block: dict[str, Any]) -> Any:
    """Return *block*, as the schema's file has it, as a message."""
    message = CLASSES["Block"]()
    for name, each in block.get("attributes", {}).items():
        flags = {flag: each.get(flag, False) for flag in ("required", "optional", "computed")}
        message.attributes.add(name=name, type=json.dumps(each["type"]).encode(), **flags)
    for name, each in block.get("block_types", {}).items():
        message.block_types.add(
            type_name=name,
            block=to_block(each["block"]),
            nesting=NESTINGS[each["nesting_mode"]],
            min_items=each["min_items"],
            max_items=each["max_items"],
        )
    return message


def fill(block: dict[str, Any], value: Any, make: Any) -> Any:
    """Return *value* with what the cloud would fill in made by *make*."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, each in block.get("attributes", {}).items():
        is_open = filled.get(name) is None or isinstance(filled.get(name), msgspec.msgpack.Ext)
        if each.get("computed") and is_open:
            filled[name] = make(name, each["type"])
    for name, each in block.get("block_types", {}).items():
        inside = filled.get(name)
        if isinstance(inside, list):
            filled[name] = [fill(each["block"], item, make) for item in inside]
    return filled


def make_up(kind: Any, attribute: str, name: str) -> Any:
    """Return a value of the type *kind* that says what it stands for."""
    if kind == "string":
        return LIKE_REAL.get(attribute, f"{attribute}-of-{{name}}").format(name=name)
    if kind in ("number", "bool"):
        return 0 if kind == "number" else False
    outer, inner = kind
    if outer == "object":
        return {field: make_up(each, field, name) for field, each in inner.items()}
    if outer == "list" and isinstance(inner, list):
        return [make_up(inner, attribute, name)]
    return {} if outer == "map" else []


def decode(value: Any) -> Any:
    if value.msgpack:
        return msgspec.msgpack.decode(value.msgpack)
    return json.loads(value.json or b"null")


def encode(value: Any) -> Any:
    return CLASSES["DynamicValue"](msgpack=msgspec.msgpack.encode(value))


def make_certificate() -> tuple[bytes, bytes, bytes]:
    """Return a key, its certificate, and that as Terraform is told it: only for this process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
        base64.b64encode(der).rstrip(b"="),
    )


def main(name: str) -> None:
    if "TF_PLUGIN_MAGIC_COOKIE" not in os.environ:
        sys.exit("this is a plugin of Terraform")
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or os.environ.get("TMPDIR") or "/tmp"
    path = f"{folder}/standin-{os.getpid()}"
    server = grpc.server(futures.ThreadPoolExecutor(8))
    provider = Provider(json.loads((SCHEMAS / f"{name}.json").read_text()))
    server.add_generic_rpc_handlers((provider, Controller(server)))
    told = b""
    if "PLUGIN_CLIENT_CERT" in os.environ:  # Terraform itself; the broker speaks in clear
        key, certificate, told = make_certificate()
        server.add_secure_port(f"unix:{path}", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(f"unix:{path}")
    server.start()
    print(f"1|6|unix|{path}|grpc|{told.decode()}", flush=True)
    server.wait_for_termination()


class Controller(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    """go-plugin's own service: Terraform asks a provider to end by it, and kills it otherwise."""

    def __init__(self, server: grpc.Server) -> None:
        self.server = server

    def service(self, details: Any) -> Any:
        if details.method != "/plugin.GRPCController/Shutdown":
            return None

        def answer(_request: bytes, _context: Any) -> bytes:
            threading.Timer(0.01, self.server.stop, [None]).start()
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


if __name__ == "__main__":
    main(sys.argv[1])
