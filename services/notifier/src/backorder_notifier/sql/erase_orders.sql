-- Of locked orders, removes how their customer is reached, and links that show who it is (the order's page,
-- tracking), and what staff noted in their own words.
-- What was ordered, promised and told stays. Returns those of which there was something to remove.
-- $1 text[] order ids, $2 text[] keys of the links in what is kept as JSON.
WITH before AS MATERIALIZED (
    SELECT order_id
    FROM orders
    WHERE order_id = ANY ($1::text[])
        AND coalesce(email, phone, name, locale, timezone, order_url) IS NOT NULL
),
of_messages AS (
    UPDATE messages
    SET content = content - $2::text[] || jsonb_build_object(
        'shipments',
        coalesce(
            (SELECT jsonb_agg(shipment - $2::text[]) FROM jsonb_array_elements(content -> 'shipments') AS shipment), '[]'
        )
    )
    WHERE order_id = ANY ($1::text[])
),
of_updates AS (
    UPDATE updates SET event = event - $2::text[] WHERE order_id = ANY ($1::text[]) AND event ?| $2::text[]
),
of_interventions AS (
    UPDATE interventions SET note = NULL WHERE order_id = ANY ($1::text[]) AND note IS NOT NULL
),
of_orders AS (
    UPDATE orders
    SET email = NULL,
        phone = NULL,
        name = NULL,
        locale = NULL,
        timezone = NULL,
        order_url = NULL,
        dossier = dossier || jsonb_build_object(
            'shipments',
            coalesce(
                (SELECT jsonb_object_agg(key, value - $2::text[]) FROM jsonb_each(dossier -> 'shipments')), '{}'
            )
        )
    WHERE order_id = ANY ($1::text[])
)
SELECT order_id FROM before
