-- Which cancels were taken before. $1 message ids.
SELECT id, fingerprint FROM cancels WHERE id = ANY ($1::text[])
