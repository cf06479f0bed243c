"""Makes the trimmed schemas anew: `python -m tests.standin.schema_from_cdktf NODE_MODULES`.

A provider's schema is said by its binary alone, but CDKTF publishes classes generated from it, as
npm packages: `npm install --ignore-scripts @cdktf/provider-google@16.12.1
@cdktf/provider-azurerm@14.23.1` in an empty folder (600 MB). What a class tells is the name, type
and nesting of each attribute and which are required; of optional ones it does not tell whether the
provider fills them in, so those are named here. The files have the form of
`terraform providers schema -json`, one of whose providers may be put in their place.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parent / "schemas"
MODULES = Path(__file__).parents[2] / "terraform" / "modules"
# Optional attributes that the cloud gives a value when nothing is set.
FILLED_IN = {"id", "network_ip", "private_ip_address", "instance_termination_action"}
CLASS = re.compile(r"^class (\w+) extends cdktf\.(\w+)", re.MULTILINE)
NOTED = re.compile(
    r"// (\w+) - computed: (?:true|false), optional: (true|false), required: (true|false)\n"
)
GETTER = re.compile(r"\n    get (\w+)\(\) \{\s*return ([^;]*);")
READS = re.compile(r'this\.(\w+)\(["\'](\w+)["\']')
TYPES: dict[str, Any] = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
    "getNumberMapAttribute": ["map", "number"],
    "getBooleanMapAttribute": ["map", "bool"],
    "getAnyMapAttribute": ["map", "string"],
    "interpolationForAttribute": "string",
}
Classes = dict[str, tuple[str, str]]  # name -> base, body


def split_classes(text: str) -> Classes:
    """Return the classes of a generated file: each one's base and body."""
    found = list(CLASS.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    return {
        each[1]: (each[2], text[each.end() : end]) for each, end in zip(found, ends, strict=True)
    }


def read_block(classes: Classes, name: str) -> dict[str, Any]:
    """Return the schema of the block that class *name* stands for."""
    body = classes[name][1]
    attributes: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    noted = {each[1]: (each[2] == "true", each[3] == "true") for each in NOTED.finditer(body)}
    members = {
        each[2]: (each[1], each[3] == "true")
        for each in re.finditer(
            r"this\._\w+ = new (\w+)\(this, [\"'](\w+)[\"'](?:, (true|false))?\)", body
        )
        if "." not in each[1]
    }
    for attribute, (class_name, is_set) in members.items():
        is_optional, is_required = noted.get(attribute, (False, False))
        is_list = class_name.endswith("List")
        item = class_name.removesuffix("List") if is_list else class_name
        item = item if item.endswith("OutputReference") else f"{item}OutputReference"
        if item not in classes:  # a map of cdktf's own
            attributes[attribute] = _say(["map", "string"], attribute, is_optional, is_required)
        elif not is_optional and not is_required:
            outer = "set" if is_set else "list"
            attributes[attribute] = {"type": [outer, read_object(classes, item)], "computed": True}
        else:
            is_single = attribute == "timeouts"
            blocks[attribute] = {
                "nesting_mode": "single" if is_single else "set" if is_set else "list",
                "min_items": int(is_required),
                "max_items": 0 if is_list or is_single else 1,
                "block": read_block(classes, item),
            }
    for getter in GETTER.finditer(body):
        reads = READS.search(getter[2])
        if reads is None or reads[1] not in TYPES or reads[2] in members:
            continue
        kind: Any = TYPES[reads[1]]
        if "Fn.tolist" in getter[2]:
            kind = ["set", kind[1]]
        camel = getter[1]
        resets = f"reset{camel[0].upper()}{camel[1:]}("
        is_optional, is_required = noted.get(
            reads[2], (resets in body, f"get {camel}Input(" in body and resets not in body)
        )
        attributes[reads[2]] = _say(kind, reads[2], is_optional, is_required)
    block: dict[str, Any] = {"attributes": dict(sorted(attributes.items()))}
    if blocks:
        block["block_types"] = dict(sorted(blocks.items()))
    return block


def read_object(classes: Classes, name: str) -> list[Any]:
    """Return the type of an object that the provider alone fills in."""
    block = read_block(classes, name)
    fields = {key: each["type"] for key, each in block["attributes"].items()}
    for key, each in block.get("block_types", {}).items():
        fields[key] = [each["nesting_mode"], ["object", {}]]
    return ["object", fields]


def read_provider(text: str) -> dict[str, Any]:
    """Return the schema of a provider's own configuration, its blocks' insides left out."""
    start = text.rindex("synthesizeAttributes")
    body = text[start : text.index("synthesizeHclAttributes", start)]
    attributes: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    for name, expression in re.findall(r"^\s+(\w+): (.*?),?$", body, re.MULTILINE):
        if re.search(r"\w+Provider\w+ToTerraform", expression):
            empty = {"nesting_mode": "list", "min_items": 0, "max_items": 1, "block": {}}
            blocks[name] = empty
            continue
        kind: Any = "string"
        for word, meant in (("boolean", "bool"), ("number", "number")):
            kind = meant if word in expression else kind
        if "listMapper" in expression:
            kind = ["list", kind]
        elif "hashMapper" in expression:
            kind = ["map", kind]
        attributes[name] = {"type": kind, "optional": True}
    return {"attributes": attributes, "block_types": blocks}


def list_types(provider: str, modules: Path) -> list[str]:
    """Return the resource types of *provider* that the modules use."""
    text = "\n".join(each.read_text() for each in sorted(modules.glob("*/*/*.tf")))
    return sorted(set(re.findall(rf'resource\s+"({provider}_\w+)"', text)))


def regenerate(node_modules: Path, provider: str) -> Path:
    """Write the trimmed schema of *provider* from its package and return its file."""
    package = node_modules / "@cdktf" / f"provider-{provider}"
    described = json.loads((package / "package.json").read_text())
    resources = {}
    for kind in list_types(provider, MODULES):
        folder = kind.removeprefix(f"{provider}_").replace("_", "-")
        classes = split_classes((package / "lib" / folder / "index.js").read_text())
        [top] = [name for name, (base, _) in classes.items() if base == "TerraformResource"]
        resources[kind] = {"version": 0, "block": read_block(classes, top)}
    schema = {
        "source": described["cdktf"]["provider"]["name"],
        "version": described["cdktf"]["provider"]["version"],
        "from": f"{described['name']}@{described['version']}",
        "provider": {
            "version": 0,
            "block": read_provider((package / "lib" / "provider" / "index.js").read_text()),
        },
        "resource_schemas": resources,
    }
    path = SCHEMAS / f"{provider}.json"
    path.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
    return path


def _say(kind: Any, name: str, is_optional: bool, is_required: bool) -> dict[str, Any]:
    if is_required:
        return {"type": kind, "required": True}
    if not is_optional:
        return {"type": kind, "computed": True}
    if name in FILLED_IN:
        return {"type": kind, "optional": True, "computed": True}
    return {"type": kind, "optional": True}


if __name__ == "__main__":
    for each in ("azurerm", "google"):
        print(regenerate(Path(sys.argv[1]), each))
