-- Which database this is, as it was at the last start.
SELECT epoch, system_identifier, timeline, seen_at FROM identity
