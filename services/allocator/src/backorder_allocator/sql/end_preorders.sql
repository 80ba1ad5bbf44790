-- The release dates of SKUs have come: their policies stay what they are, but for that. Under lock_policies. $1 SKUs.
UPDATE policies SET preorder_over = true WHERE sku = ANY ($1::text[])
