-- The lines that wait now: what the events must add up to.
SELECT order_id, line_no, quantity_waiting FROM lines WHERE quantity_waiting > 0
