insert into workers (name, device, build, models, lease_until)
values ($1, $2, $3, $4, now() + make_interval(secs => $5))
returning worker_id
