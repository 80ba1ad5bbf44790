-- Whether somebody has accepted just this before. $1 what, $2 detail.
SELECT EXISTS (SELECT FROM interventions WHERE what = $1 AND detail = $2::text::jsonb) AS was
