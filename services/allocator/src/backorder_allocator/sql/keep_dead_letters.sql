-- Keeps messages that can never be used, in the transaction that moves the cursor past them; the same record only once.
-- $1 topics, $2 partitions, $3 offsets, $4 record times, $5 keys, $6 values, $7 header names and $8 header values (each as a
-- JSON array of base64 or null, since rows of arrays can't be unnested), $9 reasons, $10 details, $11 now.
WITH dead AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::bytea[], $6::bytea[], $7::text[],
                         $8::text[], $9::text[], $10::text[])
        AS d (topic, partition, record_offset, record_at, key, value, header_names, header_values, reason, detail)
)
INSERT INTO dead_letters (topic, partition, record_offset, record_at, key, value, header_names, header_values, reason, detail,
                          failed_at)
SELECT topic, partition, record_offset, record_at, key, value,
       ARRAY(SELECT decode(name, 'base64') FROM json_array_elements_text(header_names::json) WITH ORDINALITY AS n (name, at) ORDER BY at),
       ARRAY(SELECT decode(item, 'base64') FROM json_array_elements_text(header_values::json) WITH ORDINALITY AS v (item, at) ORDER BY at),
       reason, detail, $11::timestamptz
FROM dead
ON CONFLICT DO NOTHING
