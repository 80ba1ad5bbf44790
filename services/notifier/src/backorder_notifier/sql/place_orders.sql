-- What the first OrderPlaced of an order said; later ones change nothing (changes come by ContactChanged).
-- The rows are locked by lock_orders.
-- $1 timestamptz now; one array a column: $2 order_id, $3 customer_id, $4 email, $5 phone, $6 name, $7 locale,
-- $8 timezone, $9 order_url, $10 delivery (text[]), $11 placed_at (timestamptz[]).
UPDATE orders
SET known_at = $1::timestamptz,
    customer_id = batch.customer_id,
    email = batch.email,
    phone = batch.phone,
    name = batch.name,
    locale = batch.locale,
    timezone = batch.timezone,
    order_url = batch.order_url,
    delivery = batch.delivery,
    placed_at = batch.placed_at
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::timestamptz[]
) AS batch (order_id, customer_id, email, phone, name, locale, timezone, order_url, delivery, placed_at)
WHERE orders.order_id = batch.order_id AND orders.known_at IS NULL
