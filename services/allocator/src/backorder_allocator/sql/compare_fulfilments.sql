-- Shipments and deliveries, with the journal entry that took them: by it and the ordinal they are booked when their order comes.
SELECT jsonb_build_array(f.kind, f.shipment_id, f.order_id)::text COLLATE "C" AS key,
       (to_jsonb(f) - 'batch_id' || jsonb_build_object('journal', j.number))::text AS content
FROM fulfilments f LEFT JOIN journal j USING (batch_id)
ORDER BY 1
