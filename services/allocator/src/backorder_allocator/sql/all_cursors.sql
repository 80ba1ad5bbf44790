-- How far each input partition is done, and how often somebody was refused who believed it was still his.
SELECT topic, partition, next_offset, refused, refused_at FROM cursors ORDER BY topic, partition
