-- The rules of journal entries. $1 number.
SELECT body FROM rules WHERE rules_id = $1
