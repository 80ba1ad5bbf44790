-- All pools of SKUs whose policies change. $1 SKUs, under lock_policies: there will be no others until the commit.
SELECT pool_id FROM pools WHERE sku = ANY ($1::text[])
