-- What is not grouped by is one group: null.
select case when $4 then owner end as owner, case when $5 then model end as model, case when $6 then day end as day,
       sum(jobs)::bigint as "jobs!", sum(succeeded)::bigint as "succeeded!", sum(image_bytes)::bigint as "image_bytes!",
       sum(infer_seconds)::float8 as "infer_seconds!", sum(attempt_seconds)::float8 as "attempt_seconds!"
from ops.usage
where ($1::text is null or owner = $1) and ($2::date is null or day >= $2) and ($3::date is null or day <= $3)
group by 1, 2, 3
order by 3 desc nulls last, 1, 2
limit $7
