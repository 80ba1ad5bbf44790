"""What a committed batch did, as metrics and lines in the log."""

from backorder_notifier.intake import Report
from backorder_notifier.telemetry import DEAD_LETTERS, FENCED, GAPS, MESSAGES, logger

log = logger("intake")


def count_and_log(report: Report) -> None:
    """The metrics of a committed batch, and a line for everything that was refused or reported."""
    for name, count in report.outcomes.items():
        if count:
            MESSAGES.labels(name).inc(count)
    for record, letter in report.dead:
        DEAD_LETTERS.labels(record.full_topic, letter.reason).inc()
        log.warning(
            "dead_letter",
            topic=record.full_topic,
            partition=record.partition,
            offset=record.offset,
            reason=letter.reason,
            detail=letter.detail,
        )
    for (topic, partition), next_offset in report.refused:
        FENCED.labels("partition").inc()
        log.warning("fenced", what="partition", topic=topic, partition=partition, worked_by_another_up_to=next_offset)
    for gap in report.gaps:
        GAPS.inc()
        log.error("versions_never_came", topic=gap.topic, key=gap.key, epoch=gap.epoch, first=gap.first, last=gap.last)
