-- One function settles attempts of every outcome; migrations say what each outcome does (function settle).
-- One array is cheaper than a row for each job.
select array(select settle($1::uuid[], $2::int[], $3::text[], $4::jsonb[], '{}', $5::jsonb[], $6::jsonb[], $7::smallint[], $8::smallint[], $9::text[])) as "settled!"
