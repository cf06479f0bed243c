"""The messages of Terraform's plugin protocol, version 6, as far as a stand-in needs them.

ref: https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/tfplugin6.proto
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Message -> its fields by number, as `name:type`; `*` repeats, `{}` maps from text.
MESSAGES = {
    "DynamicValue": {1: "msgpack:bytes", 2: "json:bytes"},
    "Diagnostic": {1: "severity:int64", 2: "summary:string", 3: "detail:string"},
    "RawState": {1: "json:bytes"},
    "Attribute": {
        1: "name:string",
        2: "type:bytes",
        4: "required:bool",
        5: "optional:bool",
        6: "computed:bool",
    },
    "NestedBlock": {
        1: "type_name:string",
        2: "block:Block",
        3: "nesting:int64",
        4: "min_items:int64",
        5: "max_items:int64",
    },
    "Block": {1: "version:int64", 2: "attributes:*Attribute", 3: "block_types:*NestedBlock"},
    "Schema": {1: "version:int64", 2: "block:Block"},
    "Capabilities": {2: "get_provider_schema_optional:bool"},
    "GetProviderSchema.Request": {},
    "GetProviderSchema.Response": {
        1: "provider:Schema",
        2: "resource_schemas:{}Schema",
        3: "data_source_schemas:{}Schema",
        4: "diagnostics:*Diagnostic",
        5: "provider_meta:Schema",
        6: "server_capabilities:Capabilities",
    },
    "ValidateProviderConfig.Request": {1: "config:DynamicValue"},
    "ValidateProviderConfig.Response": {2: "diagnostics:*Diagnostic"},
    "ValidateResourceConfig.Request": {1: "type_name:string", 2: "config:DynamicValue"},
    "ValidateResourceConfig.Response": {1: "diagnostics:*Diagnostic"},
    "ConfigureProvider.Request": {1: "terraform_version:string", 2: "config:DynamicValue"},
    "ConfigureProvider.Response": {1: "diagnostics:*Diagnostic"},
    "UpgradeResourceState.Request": {
        1: "type_name:string",
        2: "version:int64",
        3: "raw_state:RawState",
    },
    "UpgradeResourceState.Response": {
        1: "upgraded_state:DynamicValue",
        2: "diagnostics:*Diagnostic",
    },
    "ReadResource.Request": {
        1: "type_name:string",
        2: "current_state:DynamicValue",
        3: "private:bytes",
    },
    "ReadResource.Response": {
        1: "new_state:DynamicValue",
        2: "diagnostics:*Diagnostic",
        3: "private:bytes",
    },
    "PlanResourceChange.Request": {
        1: "type_name:string",
        2: "prior_state:DynamicValue",
        3: "proposed_new_state:DynamicValue",
        4: "config:DynamicValue",
        5: "prior_private:bytes",
    },
    "PlanResourceChange.Response": {
        1: "planned_state:DynamicValue",
        3: "planned_private:bytes",
        4: "diagnostics:*Diagnostic",
        5: "legacy_type_system:bool",
    },
    "ApplyResourceChange.Request": {
        1: "type_name:string",
        2: "prior_state:DynamicValue",
        3: "planned_state:DynamicValue",
        4: "config:DynamicValue",
        5: "planned_private:bytes",
    },
    "ApplyResourceChange.Response": {
        1: "new_state:DynamicValue",
        2: "private:bytes",
        3: "diagnostics:*Diagnostic",
        4: "legacy_type_system:bool",
    },
    "StopProvider.Request": {},
    "StopProvider.Response": {1: "error:string"},
}
CALLS = sorted({name.partition(".")[0] for name in MESSAGES if "." in name})
FIELD = descriptor_pb2.FieldDescriptorProto
KINDS = {
    "bytes": FIELD.TYPE_BYTES,
    "string": FIELD.TYPE_STRING,
    "bool": FIELD.TYPE_BOOL,
    "int64": FIELD.TYPE_INT64,  # an enum's value looks the same on the wire
}


def _add_field(owner: Any, number: int, text: str) -> None:
    name, _, kind = text.partition(":")
    field = owner.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL)
    if kind.startswith("{}"):
        entry = owner.nested_type.add(name="".join(p.title() for p in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key:string")
        _add_field(entry, 2, f"value:{kind[2:]}")
        field.type, field.label = FIELD.TYPE_MESSAGE, FIELD.LABEL_REPEATED
        field.type_name = f".standin.{owner.name}.{entry.name}"
        return
    if kind.startswith("*"):
        field.label, kind = FIELD.LABEL_REPEATED, kind[1:]
    if kind in KINDS:
        field.type = KINDS[kind]
    else:
        field.type, field.type_name = FIELD.TYPE_MESSAGE, f".standin.{kind}"


def _make_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="standin.proto", package="standin", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name.replace(".", "_"))
        for number, text in fields.items():
            _add_field(message, number, text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"standin.{name.replace('.', '_')}")
        )
        for name in MESSAGES
    }


CLASSES = _make_classes()
