"""Makes the targets that the settings name."""

from nightingale_hub.exports import Export
from nightingale_hub.services.audit.export.datadog import Datadog
from nightingale_hub.services.audit.export.elasticsearch import Elasticsearch
from nightingale_hub.services.audit.export.lines import Lines
from nightingale_hub.services.audit.export.otlp import Otlp
from nightingale_hub.services.audit.export.syslog import Syslog
from nightingale_hub.services.audit.export.target import Target, read_secret


def make_target(export: Export) -> Target:
    """Return the target of *export*, whose values were checked; reads its secret."""
    values = export.values
    ca_file = values.get("ca_file")
    match export.kind:
        case "elasticsearch":
            key = _read(values.get("api_key_file"))
            return Elasticsearch(values["url"], values["index"], key, ca_file)
        case "otlp":
            return Otlp(values["url"], _read(values.get("token_file")), ca_file)
        case "datadog":
            return Datadog(values["url"], read_secret(values["api_key_file"]), ca_file)
        case "syslog":
            return Syslog(
                values["host"],
                values["port"],
                ca_file,
                values.get("cert_file"),
                values.get("key_file"),
            )
        case kind:
            assert kind == "lines"
            return Lines(values["path"])


def _read(path: str | None) -> str | None:
    return read_secret(path) if path else None
