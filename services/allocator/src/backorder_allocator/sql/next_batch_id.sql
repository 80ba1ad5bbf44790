-- A name for the rows of this batch until it has its place in the log. Gaps are harmless: seq counts without them.
SELECT nextval('batch_ids')
