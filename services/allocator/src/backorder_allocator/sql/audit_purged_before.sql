-- Dead letters that failed before this may have been purged. Null: none ever was.
SELECT max(failed_before) AS purged_before FROM dead_letters_purged
