update model_versions v set load_error = $3, load_error_worker = $2, load_error_at = now()
where v.model_version_id = $1
  and (v.load_error_worker is distinct from $2 or v.load_error_at < now() - interval '1 minute')
