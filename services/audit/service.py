"""The audit service put together: its routes, its writer and its index."""

import asyncio
from typing import Any

from nightingale_hub.clock import now_us
from nightingale_hub.exports import parse_exports
from nightingale_hub.metrics import MetricsHandler
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.audit.api import (
    FilesHandler,
    ManifestHandler,
    ReadersHandler,
    ReadsHandler,
    StreamHandler,
    SummaryHandler,
)
from nightingale_hub.services.audit.archive import Archive
from nightingale_hub.services.audit.catalogue import HubCatalogue
from nightingale_hub.services.audit.cold import Mover, Store
from nightingale_hub.services.audit.downloads import DownloadsHandler
from nightingale_hub.services.audit.ends import end_streams
from nightingale_hub.services.audit.export.exporter import Exporter
from nightingale_hub.services.audit.export.targets import make_target
from nightingale_hub.services.audit.facts import FACTS
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.index import Index
from nightingale_hub.services.audit.ingest import DECODERS, BatchHandler, OpenHandler
from nightingale_hub.services.audit.log import Log, LogSigner
from nightingale_hub.services.audit.openapi import OpenApiHandler
from nightingale_hub.services.audit.reader import EventReader
from nightingale_hub.services.audit.respond.api import (
    BypassHandler,
    QueueHandler,
    ReportHandler,
    SignOffHandler,
)
from nightingale_hub.services.audit.retention import Keeper
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.services.audit.watch import Watch
from nightingale_hub.services.audit.writer import Writer

INDEX_PAUSE_S = 0.2
EXPORT_PAUSE_S = 1.0
LOG_PAUSE_S = 1.0
ENDS_PAUSE_S = 60.0
WATCH_PAUSE_S = 0.5
MEASURE_PAUSE_S = 5.0
COLD_PAUSE_S = 600.0
KEEP_PAUSE_S = 3600.0


def make_segments(context: Context) -> Segments:
    """Return the segment files of *context*'s state directory."""
    return Segments(context.settings.state_path / "audit" / "segments", context.epoch)


def make(context: Context, make_writer: type[Writer] = Writer) -> Service:
    """Return the service for *context*."""
    segments = make_segments(context)
    writer = make_writer(context, segments)
    index = Index(context, segments)
    follower = Log(context)

    async def end() -> None:
        await context.write(lambda conn: end_streams(conn, now_us()))

    reader = EventReader(context, segments)
    catalogue = HubCatalogue(context)
    watch = Watch(context, reader, catalogue)
    store = Store(context.settings)
    mover, keeper = Mover(context, store), Keeper(context, segments.directory)
    exporters = [
        Exporter(context, reader, each.name, make_target(each))
        for each in parse_exports(context.settings.exports)
    ]

    async def stop() -> None:
        await writer.stop()
        for exporter in exporters:
            await exporter.target.close()

    return Service(
        routes=[
            (r"metrics", MetricsHandler, {"facts": FACTS}),
            *list_routes(writer, follower.signer, History(Archive(store))),
        ],
        loops=[
            Loop("writer", 0.0, writer.step),
            Loop("index", INDEX_PAUSE_S, index.step),
            Loop("watch", WATCH_PAUSE_S, watch.step),
            Loop("measure", MEASURE_PAUSE_S, catalogue.measure_next),
            *(Loop(f"export {each.name}", EXPORT_PAUSE_S, each.step) for each in exporters),
            Loop("log", LOG_PAUSE_S, follower.step),
            Loop("ends", ENDS_PAUSE_S, end),
            Loop("cold", COLD_PAUSE_S, mover.step),
            Loop("retention", KEEP_PAUSE_S, keeper.step),
        ],
        on_stop=stop,
    )


def list_routes(
    writer: Writer, signer: LogSigner, history: History
) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes of the service's API."""
    asked = {"history": history}
    intake = {"writer": writer, "decoding": asyncio.Semaphore(DECODERS)}
    return [
        (r"api/streams/([^/]+)/open", OpenHandler, {}),
        (r"api/streams/([^/]+)/batches", BatchHandler, intake),
        (r"api/streams/([^/]+)", StreamHandler, {}),
        (r"api/openapi\.json", OpenApiHandler, {}),
        (r"api/reads", ReadsHandler, asked),
        (r"api/summary", SummaryHandler, asked),
        (r"api/readers", ReadersHandler, asked),
        (r"api/review", QueueHandler, {}),
        (r"api/review/([0-9]{1,18})", SignOffHandler, {}),
        (r"api/bypasses", BypassHandler, {}),
        (r"api/report", ReportHandler, asked),
        (r"api/files", FilesHandler, asked),
        (r"api/downloads", DownloadsHandler, {}),
        (r"api/manifests/([^/]+)", ManifestHandler, {**asked, "signer": signer}),
    ]
