-- Dead letters that failed before this were purged by somebody. Null: nobody ever did.
SELECT max((detail ->> 'failed_before')::timestamptz) AS purged_before FROM interventions WHERE what = 'dead_letters_purged'
