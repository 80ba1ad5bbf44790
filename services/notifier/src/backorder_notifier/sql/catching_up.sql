-- Whether a partition is being read that is far behind: then what is known of orders is old, and telling it would have to
-- be put right by the next message. One that doesn't move holds nobody up, nor does one that never catches up.
-- $1 timestamptz moved after this, $2 timestamptz behind since after this.
SELECT EXISTS (
    SELECT FROM cursors WHERE moved_at > $1::timestamptz AND behind_since > $2::timestamptz
) AS catching_up
